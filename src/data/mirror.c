/* SPDX-License-Identifier: Apache-2.0 */
/* mirror.c - what a mirror does to each kind of condition.
 *
 * A pose's left and right limbs have colours of their own, so its mirror image would be drawn in
 * the wrong ones.
 */
#include "data/mirror.h"

#include <string.h>

static const struct kind {
    const char *name;
    cn_mirror how; /* OFF: can't be */
} kinds[] = {
    {"canny", CN_MIRROR_PLAIN},        {"edges", CN_MIRROR_PLAIN},    {"hed", CN_MIRROR_PLAIN},
    {"softedge", CN_MIRROR_PLAIN},     {"scribble", CN_MIRROR_PLAIN}, {"lineart", CN_MIRROR_PLAIN},
    {"mlsd", CN_MIRROR_PLAIN},         {"depth", CN_MIRROR_PLAIN},    {"mask", CN_MIRROR_PLAIN},
    {"segmentation", CN_MIRROR_PLAIN}, {"colour", CN_MIRROR_PLAIN},   {"blur", CN_MIRROR_PLAIN},
    {"tile", CN_MIRROR_PLAIN},         {"normal", CN_MIRROR_NORMALS}, {"pose", CN_MIRROR_OFF},
    {"openpose", CN_MIRROR_OFF},       {"face", CN_MIRROR_OFF},
};

static cn_status fail_unknown(cn_ctx *ctx, const char *kind)
{
    cn_str list = {0};
    for (size_t i = 0; i < CN_COUNT(kinds); i++)
        cn_str_addf(&list, "%s%s", i ? ", " : "", kinds[i].name);
    const cn_status s = cn_fail(ctx, CN_EINVAL, "conditions of the kind \"%s\": known are %s", kind,
                                list.data ? list.data : "");
    cn_str_free(&list);
    return s;
}

cn_status cn_mirror_find(cn_ctx *ctx, const char *kind, cn_mirror *out)
{
    const size_t n = strcspn(kind, " ,"); /* "canny low=50 high=100" */
    for (size_t i = 0; i < CN_COUNT(kinds); i++) {
        if (strlen(kinds[i].name) != n || strncmp(kinds[i].name, kind, n) != 0) continue;
        if (kinds[i].how == CN_MIRROR_OFF)
            return cn_fail(ctx, CN_EINVAL,
                           "--random-flip: left and right of a %s have colours of their own, a "
                           "mirrored one would have to be drawn anew; leave it out",
                           kinds[i].name);
        *out = kinds[i].how;
        return CN_OK;
    }
    return fail_unknown(ctx, kind);
}

void cn_mirror_picture(cn_image *image)
{
    for (int64_t y = 0; y < image->height; y++) {
        uint8_t *row = image->rgb + 3 * y * image->width;
        for (int64_t l = 0, r = image->width - 1; l < r; l++, r--) {
            uint8_t kept[3];
            memcpy(kept, row + 3 * l, 3);
            memcpy(row + 3 * l, row + 3 * r, 3);
            memcpy(row + 3 * r, kept, 3);
        }
    }
}

void cn_mirror_condition(cn_mirror how, cn_image *image)
{
    cn_mirror_picture(image);
    if (how != CN_MIRROR_NORMALS) return;
    for (int64_t i = 0; i < image->width * image->height; i++)
        image->rgb[3 * i] = (uint8_t)(255 - image->rgb[3 * i]);
}
