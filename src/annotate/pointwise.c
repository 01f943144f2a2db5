/* SPDX-License-Identifier: Apache-2.0 */
/* pointwise.c - copy, inversion and the threshold that turns a drawing into a scribble
 * condition. */
#include "annotate/pointwise.h"

#include "annotate/kinds.h"

#include <string.h>

enum { SCRIBBLE_LEVEL = 127 };

static size_t image_bytes(const cn_image *image)
{
    return (size_t)image->width * (size_t)image->height * 3;
}

cn_status cn_image_copy(cn_ctx *ctx, const cn_image *in, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    memcpy(image->rgb, in->rgb, image_bytes(in));
    *out = image;
    return CN_OK;
}

cn_status cn_image_invert(cn_ctx *ctx, const cn_image *in, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    for (size_t i = 0, n = image_bytes(in); i < n; i++) image->rgb[i] = (uint8_t)(255 - in->rgb[i]);
    *out = image;
    return CN_OK;
}

/* White where min(R, G, B) is above the level, or with `below` under it. */
static cn_status cut(cn_ctx *ctx, const cn_image *in, double level, bool below, cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    for (size_t i = 0, n = image_bytes(in); i < n; i += 3) {
        const uint8_t *p = in->rgb + i;
        const double least = CN_MIN(p[0], CN_MIN(p[1], p[2]));
        memset(image->rgb + i, (below ? least < level : least > level) ? 255 : 0, 3);
    }
    *out = image;
    return CN_OK;
}

cn_status cn_scribble(cn_ctx *ctx, const cn_image *in, bool mask, cn_image **out)
{
    return cut(ctx, in, SCRIBBLE_LEVEL, !mask, out);
}

cn_status cn_threshold(cn_ctx *ctx, const cn_image *in, double level, cn_image **out)
{
    return cut(ctx, in, level, false, out);
}

bool cn_is_light_on_dark(const cn_image *in)
{
    int64_t dark = 0, light = 0;
    for (size_t i = 0, n = image_bytes(in); i < n; i += 3) {
        const uint8_t *p = in->rgb + i;
        dark += CN_MAX(p[0], CN_MAX(p[1], p[2])) <= SCRIBBLE_LEVEL;
        light += CN_MIN(p[0], CN_MIN(p[1], p[2])) >= SCRIBBLE_LEVEL;
    }
    return dark > light;
}

/* --- the kinds -------------------------------------------------------------------------------- */

static cn_status run_none(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_image_copy(cn_session_ctx(s), in, out);
}

const cn_kind cn_kind_none = {
    .name = "none", .title = "the picture as it is", .run = run_none, .mirror = CN_MIRROR_INPUT};

static cn_status run_invert(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_image_invert(cn_session_ctx(s), in, out);
}

const cn_kind cn_kind_invert = {.name = "invert",
                                .title = "dark and light exchanged",
                                .run = run_invert,
                                .mirror = CN_MIRROR_INPUT};

static const cn_kind_option scribble_options[] = {
    {"mask", "the drawing is white on black", CN_OPTION_BOOL, 0, 1, 0},
    {"dark", "the drawing is dark on light; without mask and dark that is seen from it",
     CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_scribble(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    if (v[0] != 0 && v[1] != 0)
        return cn_fail(cn_session_ctx(s), CN_EINVAL, "scribble: either mask or dark");
    if (v[0] == 0 && v[1] == 0 && cn_is_light_on_dark(in)) {
        cn_image *turned = NULL;
        CN_TRY(cn_image_invert(cn_session_ctx(s), in, &turned));
        cn_status status = cn_scribble(cn_session_ctx(s), turned, false, out);
        cn_image_destroy(turned);
        return status;
    }
    return cn_scribble(cn_session_ctx(s), in, v[0] != 0, out);
}

const cn_kind cn_kind_scribble = {
    .name = "scribble",
    .title = "a user's drawing, dark on light or light on dark, as white on black",
    CN_KIND_OPTIONS(scribble_options),
    .run = run_scribble,
    .mirror = CN_MIRROR_PLAIN};

static const cn_kind_option threshold_options[] = {
    {"level", "what is lighter than this in red, green and blue is white", CN_OPTION_NUMBER, 0, 255,
     127},
};

static cn_status run_threshold(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_threshold(cn_session_ctx(s), in, cn_session_args(s)->values[0], out);
}

const cn_kind cn_kind_threshold = {.name = "threshold",
                                   .title = "white where a picture is light, black elsewhere",
                                   CN_KIND_OPTIONS(threshold_options),
                                   .run = run_threshold,
                                   .measure = CN_MEASURE_EDGES,
                                   .mirror = CN_MIRROR_PLAIN};
