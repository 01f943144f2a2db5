/* SPDX-License-Identifier: Apache-2.0 */
/* source_folder.c - a folder of pictures as a source; captions stand wherever captions.h finds
 * them. */
#include "pipeline/sources_internal.h"

#include "io/listing.h"
#include "data/captions.h"
#include "pipeline/picture_labels_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PICTURE_BYTES = 1 << 30 };

typedef struct folder {
    char path[CN_PATH_BYTES];
    cn_listing listing;
    cn_captions *captions;
} folder;

static bool any(const char *text)
{
    (void)text;
    return true;
}

static cn_status open_folder(cn_ctx *ctx, const cn_prepare_options *o, cn_source *s)
{
    const cn_listing_rules rules = {
        .endings = cn_picture_endings, .recursive = o->recursive, .except = o->output_dir};
    char coco[CN_PATH_BYTES];
    folder *f = cn_alloc0(ctx, sizeof *f);
    if (!f) return CN_ENOMEM;
    s->own = f;
    if (!realpath(s->text, f->path))
        return cn_fail(ctx, CN_EIO, "%s: can't read the folder: %s", s->text, strerror(errno));
    CN_TRY(cn_listing_read(ctx, f->path, &rules, &f->listing));
    s->n = f->listing.n;
    if (!s->n)
        return cn_fail(ctx, CN_EINVAL, "%s: no pictures (PNG, JPEG, WebP, ...) in it%s", f->path,
                       rules.recursive ? "" : " (folders in it are read with --recursive)");
    CN_TRY(cn_labels_find_coco(ctx, f->path, "captions", coco));
    return cn_captions_open(ctx, f->path,
                            o->captions ? o->captions
                            : coco[0]   ? coco
                                        : NULL,
                            o->caption, &f->captions);
}

static void close_folder(cn_source *s)
{
    folder *f = s->own;
    if (!f) return;
    cn_captions_close(f->captions);
    cn_listing_free(&f->listing);
    cn_free(f);
    s->own = NULL;
}

const char *cn_source_folder_path(const cn_source *s)
{
    return ((const folder *)s->own)->path;
}

const char *cn_source_folder_name(const cn_source *s, int64_t i)
{
    return ((const folder *)s->own)->listing.names[i];
}

static cn_status get_file(cn_ctx *ctx, const cn_source *s, int64_t i, cn_entry *out)
{
    const folder *f = s->own;
    char path[CN_PATH_BYTES];
    const char *name = f->listing.names[i];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", f->path, name));
    out->where = cn_strdup(ctx, path);
    if (!out->where || !(out->name = cn_strdup(ctx, name))) return CN_ENOMEM;
    out->stem = cn_stem_length(name);
    CN_TRY(cn_captions_get(ctx, f->captions, name, 0, &out->caption, &out->captioned));
    return cn_file_read(ctx, path, MAX_PICTURE_BYTES, &out->bytes, &out->n_bytes);
}

const cn_source_kind cn_source_folder = {
    .name = "folder", .detect = any, .open = open_folder, .get = get_file, .close = close_folder};
