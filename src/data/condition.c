/* SPDX-License-Identifier: Apache-2.0 */
/* condition.c - from a few words to the annotator of a data set. */
#include "data/condition.h"

#include "annotate/network.h"
#include "io/json.h"

#include <string.h>

enum { TEXT_BYTES = 512 };

/* --- what is noted ---------------------------------------------------------------------------- */

/* The rest of the line behind "condition ". */
static cn_status read_scenes(cn_ctx *ctx, const char *path, char out[TEXT_BYTES])
{
    static const char key[] = "condition ";
    char *text = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, 8192, &text, &n));
    const char *at = strstr(text, key);
    if (at)
        snprintf(out, TEXT_BYTES, "%.*s", (int)strcspn(at + sizeof key - 1, "\n"),
                 at + sizeof key - 1);
    cn_free(text);
    return CN_OK;
}

/* "settings" of the first line. A record that can't be read says nothing. */
static cn_status read_record(cn_ctx *ctx, const char *path, char out[TEXT_BYTES])
{
    cn_jsonl *lines = NULL;
    json_t *first = NULL;
    CN_TRY(cn_jsonl_open(ctx, path, &lines));
    const cn_status s = cn_jsonl_next(ctx, lines, &first);
    if (s == CN_OK && first) snprintf(out, TEXT_BYTES, "%s", cn_json_str(first, "settings", ""));
    json_decref(first);
    cn_jsonl_close(lines);
    return s == CN_EFORMAT ? CN_OK : s;
}

cn_status cn_condition_text(cn_ctx *ctx, const char *dir, char out[TEXT_BYTES])
{
    char path[CN_PATH_BYTES];
    out[0] = 0;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scenes.txt", dir));
    if (cn_file_exists(path)) return read_scenes(ctx, path, out);
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/annotate.jsonl", dir));
    return cn_file_exists(path) ? read_record(ctx, path, out) : CN_OK;
}

/* --- from words to an annotator --------------------------------------------------------------- */

/* A kind that takes labels becomes the one that finds the same in pictures. */
static cn_status look_at_pictures(cn_ctx *ctx, cn_annotate_args *args)
{
    const char *kind = args->kind->from_picture;
    return kind ? cn_annotate_read(ctx, kind, args) : CN_OK;
}

static cn_status fail_unmeasured(cn_ctx *ctx, const cn_kind *kind)
{
    cn_str list = {0};
    for (int i = 0; i < cn_kind_count(); i++)
        if (cn_kind_at(i)->measure) cn_str_addf(&list, "%s, ", cn_kind_at(i)->name);
    const cn_status s =
        cn_fail(ctx, CN_EINVAL, "%s: its conditions can't be compared; %snone are possible",
                kind->name, list.data ? list.data : "");
    cn_str_free(&list);
    return s;
}

static cn_status asked_for(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    cn_annotate_args a;
    CN_TRY(cn_annotate_read(ctx, text, &a));
    if (strcmp(a.kind->name, "none") == 0) return CN_OK;
    CN_TRY(look_at_pictures(ctx, &a));
    if (!a.kind->measure) return fail_unmeasured(ctx, a.kind);
    *args = a;
    return CN_OK;
}

/* Scenes' exact maps: their edges are much like canny's, which has them as another name; the others
 * are made by no annotator, though some have the name of one. */
static const char *kind_of_scenes(const char *noted)
{
    static const char *const exact[] = {"normal",   "segmentation", "lines",   "softedge",
                                        "scribble", "pose",         "cartoon", "toon"};
    for (size_t i = 0; i < CN_COUNT(exact); i++)
        if (strcmp(noted, exact[i]) == 0) return "none";
    return noted;
}

cn_status cn_condition_find(cn_ctx *ctx, const cn_train_options *o, cn_annotate_args *args,
                            bool *told)
{
    char noted[TEXT_BYTES];
    cn_annotate_args links[CN_ANNOTATE_LINKS], *a = &links[0];
    int n = 0;
    *args = (cn_annotate_args){0};
    *told = true;
    if (o->validation_annotator) return asked_for(ctx, o->validation_annotator, args);
    CN_TRY(cn_condition_text(ctx, o->train_data_dir, noted));
    const char *text = o->conditioning_kind ? o->conditioning_kind : kind_of_scenes(noted);
    *told = text[0] != 0;
    if (!*told || cn_annotate_read_noted(ctx, text, links, &n) != CN_OK) return CN_OK;
    if (n > 1) return CN_OK; /* kinds behind each other: nothing undoes that */
    if (look_at_pictures(ctx, a) == CN_OK && a->kind->measure) *args = *a;
    return CN_OK;
}

bool cn_condition_black_and_white(const uint8_t *rgb, int64_t pixels)
{
    bool black = false, white = false;
    for (int64_t i = 0; i < 3 * pixels; i++) {
        if (rgb[i] >= 16 && rgb[i] < 240) return false;
        black |= rgb[i] < 16;
        white |= rgb[i] >= 240;
    }
    for (int64_t i = 0; i < pixels; i++) /* no colours */
        if ((rgb[3 * i] < 16) != (rgb[3 * i + 1] < 16) ||
            (rgb[3 * i] < 16) != (rgb[3 * i + 2] < 16))
            return false;
    return black && white;
}
