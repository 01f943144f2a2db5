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
    char path[4096];
    out[0] = 0;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/scenes.txt", dir));
    if (cn_file_exists(path)) return read_scenes(ctx, path, out);
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/annotate.jsonl", dir));
    return cn_file_exists(path) ? read_record(ctx, path, out) : CN_OK;
}

/* --- from words to an annotator --------------------------------------------------------------- */

/* "canny low=50 high=100 seed=3": settings up to the first word that is none of the kind's; what
 * follows belongs to the run that made the conditions. */
static cn_status read_noted(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    char word[128];
    size_t n = strcspn(text, " ");
    CN_TRY(cn_format(ctx, word, sizeof word, "%.*s", (int)n, text));
    CN_TRY(cn_annotate_read(ctx, word, args));
    for (text += n; *(text += strspn(text, " ")); text += n) {
        n = strcspn(text, " ");
        if (n >= sizeof word || cn_format(ctx, word, sizeof word, "%.*s", (int)n, text) != CN_OK ||
            cn_annotate_parse(ctx, args, word) != CN_OK)
            return CN_OK;
    }
    return CN_OK;
}

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

/* Scenes' exact maps: their edges are much like canny's; their normals and classes are none of a
 * network's. */
static const char *kind_of_scenes(const char *noted)
{
    if (strcmp(noted, "edges") == 0) return "canny";
    if (strcmp(noted, "normal") == 0 || strcmp(noted, "segmentation") == 0) return "none";
    return noted;
}

cn_status cn_condition_find(cn_ctx *ctx, const cn_train_options *o, cn_annotate_args *args,
                            bool *told)
{
    char noted[TEXT_BYTES];
    cn_annotate_args a;
    *args = (cn_annotate_args){0};
    *told = true;
    if (o->validation_annotator) return asked_for(ctx, o->validation_annotator, args);
    CN_TRY(cn_condition_text(ctx, o->train_data_dir, noted));
    const char *text = o->conditioning_kind ? o->conditioning_kind : kind_of_scenes(noted);
    *told = text[0] != 0;
    if (!*told || strchr(text, '|'))
        return CN_OK; /* kinds behind each other: nothing undoes that */
    if (strcmp(text, "edges") == 0) text = "canny";
    if (read_noted(ctx, text, &a) != CN_OK || look_at_pictures(ctx, &a) != CN_OK) return CN_OK;
    if (a.kind->measure) *args = a;
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
