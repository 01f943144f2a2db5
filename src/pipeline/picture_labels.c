/* SPDX-License-Identifier: Apache-2.0 */
/* picture_labels.c - see picture_labels_internal.h. */
#include "pipeline/picture_labels_internal.h"

#include "io/listing.h"

#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

cn_status cn_labels_find_coco(cn_ctx *ctx, const char *photos, const char *what,
                              char out[CN_PATH_BYTES])
{
    CN_TRY(cn_format(ctx, out, CN_PATH_BYTES, "%s/../annotations/%s_%s.json", photos, what,
                     base_name(photos)));
    if (!cn_file_exists(out)) out[0] = 0;
    return CN_OK;
}

/* ADE20K's label maps: ROOT/images/training has them in ROOT/annotations/training. */
static cn_status find_label_folder(cn_ctx *ctx, const char *photos, char out[CN_PATH_BYTES])
{
    static const char images[] = "/images";
    const char *at = NULL;
    for (const char *s = photos; (s = strstr(s, images)); s++)
        if (s[sizeof images - 1] == '/' || !s[sizeof images - 1]) at = s;
    out[0] = 0;
    if (!at) return CN_OK;
    return cn_format(ctx, out, CN_PATH_BYTES, "%.*s/annotations%s", (int)(at - photos), photos,
                     at + sizeof images - 1);
}

cn_status cn_labels_find(cn_ctx *ctx, const cn_kind *kind, const char *photos, const char *given,
                         cn_labels *out)
{
    *out = (cn_labels){0};
    switch (kind->takes) {
    case CN_TAKES_PICTURE: return CN_OK;
    case CN_TAKES_COCO: CN_TRY(cn_labels_find_coco(ctx, photos, "instances", out->path)); break;
    case CN_TAKES_LABELS: CN_TRY(find_label_folder(ctx, photos, out->path)); break;
    case CN_TAKES_ARRAY: CN_TRY(cn_format(ctx, out->path, sizeof out->path, "%s", photos)); break;
    }
    if (given) CN_TRY(cn_format(ctx, out->path, sizeof out->path, "%s", given));
    if (!out->path[0])
        return cn_fail(ctx, CN_EINVAL,
                       "%s takes %s: where they are must be said (none were found beside %s)",
                       kind->name, cn_takes_name(kind->takes), photos);
    if (kind->takes == CN_TAKES_COCO ? cn_file_exists(out->path) : cn_dir_exists(out->path))
        return CN_OK;
    return cn_fail(ctx, CN_EIO, "%s: not there; %s takes %s", out->path, kind->name,
                   cn_takes_name(kind->takes));
}

cn_status cn_labels_open(cn_ctx *ctx, const cn_kind *kind, cn_labels *l)
{
    return kind->takes == CN_TAKES_COCO ? cn_coco_open(ctx, l->path, NULL, &l->coco) : CN_OK;
}

void cn_labels_close(cn_labels *l)
{
    cn_coco_close(l->coco);
    l->coco = NULL;
}

cn_status cn_labels_input(cn_ctx *ctx, const cn_labels *l, const cn_kind *kind, const char *name,
                          char path[CN_PATH_BYTES], cn_condition_input *in)
{
    if (l->coco) {
        in->picture = cn_coco_find(l->coco, name);
        in->coco = l->coco;
        return in->picture >= 0 ? CN_OK
                                : cn_fail(ctx, CN_EFORMAT, "%s: %s doesn't list it", name, l->path);
    }
    CN_TRY(cn_format(ctx, path, CN_PATH_BYTES, "%s/%.*s%s", l->path, (int)cn_stem_length(name),
                     name, kind->suffix ? kind->suffix : ".png"));
    if (!cn_file_exists(path))
        return cn_fail(ctx, CN_EFORMAT, "%s: no such file; %s takes %s", path, kind->name,
                       cn_takes_name(kind->takes));
    in->path = path;
    return CN_OK;
}
