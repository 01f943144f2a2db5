/* SPDX-License-Identifier: Apache-2.0 */
/* pair_list.c - see pair_list_internal.h. */
#include "pipeline/pair_list_internal.h"

#include "io/json_text.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct names {
    const char *file, *condition, *target, *prompt;
} names;

static const names fill50k = {"prompt.json", "source", "target", "prompt"};
static const names imagefolder = {"metadata.jsonl", "conditioning_image", "file_name", "text"};

struct cn_pair_list {
    const names *names;
    cn_file_writer w;
};

static const names *names_of(const char *layout)
{
    return layout && strcmp(layout, "imagefolder") == 0 ? &imagefolder : &fill50k;
}

const char *cn_pair_list_name(const char *layout)
{
    return names_of(layout)->file;
}

cn_status cn_pair_list_check(cn_ctx *ctx, const char *dir, const char *layout)
{
    char other[CN_PATH_BYTES];
    const names *mine = names_of(layout);
    CN_TRY(cn_format(ctx, other, sizeof other, "%s/%s", dir,
                     mine == &fill50k ? imagefolder.file : fill50k.file));
    return cn_file_exists(other)
               ? cn_fail(ctx, CN_EINVAL, "%s is there: this folder has another layout", other)
               : CN_OK;
}

cn_status cn_pair_list_open(cn_ctx *ctx, const char *dir, const char *layout, cn_pair_list **out)
{
    char path[CN_PATH_BYTES];
    cn_pair_list *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->names = names_of(layout);
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", dir, l->names->file);
    if (s == CN_OK) s = cn_writer_open(ctx, path, &l->w);
    if (s == CN_OK)
        *out = l;
    else
        cn_free(l);
    return s;
}

cn_status cn_pair_list_put(cn_ctx *ctx, cn_pair_list *l, const char *condition, const char *target,
                           const char *prompt)
{
    json_t *line = json_pack("{s:s,s:s,s:s}", l->names->condition, condition, l->names->target,
                             target, l->names->prompt, prompt);
    char *text = cn_json_text(line, 0);
    json_decref(line);
    if (!text)
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: its name or caption isn't UTF-8, which the list of pairs is in",
                       target);
    const bool ok = fprintf(l->w.f, "%s\n", text) > 0;
    free(text);
    return ok ? CN_OK : cn_fail(ctx, CN_EIO, "can't write the list of pairs: %s", strerror(errno));
}

cn_status cn_pair_list_commit(cn_ctx *ctx, cn_pair_list *l)
{
    const cn_status s = cn_writer_commit(ctx, &l->w);
    cn_free(l);
    return s;
}

void cn_pair_list_abort(cn_pair_list *l)
{
    if (!l) return;
    cn_writer_abort(&l->w);
    cn_free(l);
}
