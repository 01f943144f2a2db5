/* SPDX-License-Identifier: Apache-2.0 */
/* mirror.c - pictures and conditions mirrored, as the kinds' rows say (annotate/annotate.h). */
#include "data/mirror.h"

#include <string.h>

/* Conditions that data sets come with and no annotator here makes. */
static const struct {
    const char *name;
    cn_mirror mirror;
} others[] = {{"mask", CN_MIRROR_PLAIN},
              {"lines", CN_MIRROR_PLAIN}, /* these three are scenes' */
              {"cartoon", CN_MIRROR_PLAIN},
              {"toon", CN_MIRROR_PLAIN},
              {"colour", CN_MIRROR_PLAIN},
              {"blur", CN_MIRROR_PLAIN},
              {"tile", CN_MIRROR_PLAIN},
              {"face", CN_MIRROR_OFF}}; /* MediaPipe's, whose eyes differ in colour */

/* The mirror of one of the others; false for any other text. */
static bool find_other(const char *text, cn_mirror *out)
{
    const size_t n = strcspn(text, " ,");
    for (size_t i = 0; i < CN_COUNT(others); i++) {
        if (!cn_same_name(others[i].name, text, n)) continue;
        *out = others[i].mirror;
        return true;
    }
    return false;
}

/* Behind the message that names the annotators. */
static cn_status fail_unknown(cn_ctx *ctx, cn_status s, const char *text)
{
    cn_str list = {0};
    for (size_t i = 0; i < CN_COUNT(others); i++)
        cn_str_addf(&list, "%s%s", i ? ", " : "", others[i].name);
    s = cn_fail_prefix(ctx, s, "conditions of the kind \"%s\" (known are an annotator's and %s)",
                       text, list.data ? list.data : "others");
    cn_str_free(&list);
    return s;
}

cn_status cn_mirror_find(cn_ctx *ctx, const char *text, cn_mirror *out)
{
    cn_annotate_args links[CN_ANNOTATE_LINKS];
    cn_mirror mirror;
    int n = 0;
    if (!find_other(text, &mirror)) {
        const cn_status s = cn_annotate_read_noted(ctx, text, links, &n);
        if (s != CN_OK) return fail_unknown(ctx, s, text);
        mirror = cn_annotate_mirror(links, n);
    }
    if (mirror == CN_MIRROR_OFF)
        return cn_fail(ctx, CN_EINVAL,
                       "conditions of the kind \"%s\" can't be flipped: left and right have "
                       "colours of their own, so a mirrored one would have to be drawn anew",
                       text);
    *out = mirror;
    return CN_OK;
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
    if (how != CN_MIRROR_NORMALS && how != CN_MIRROR_NORMALS_BGR) return;
    uint8_t *x = image->rgb + (how == CN_MIRROR_NORMALS ? 0 : 2);
    for (int64_t i = 0; i < image->width * image->height; i++) x[3 * i] = (uint8_t)(255 - x[3 * i]);
}
