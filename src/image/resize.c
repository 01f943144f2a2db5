/* SPDX-License-Identifier: Apache-2.0 */
/* resize.c - the entry points of resize.h: checks, nearest, and the sizes that images get.
 *
 * The interpolating filters are in resize_taps.c, the box average in resize_area.c.
 */
#include "image/resize.h"
#include "image/resize_internal.h"

#include <math.h>
#include <string.h>

/* A side longer than this is refused: the byte counts of a picture and its work rows then fit
 * size_t. */
enum { SIDE_MAX = 1 << 20 };

static cn_status check_spec(cn_ctx *ctx, const cn_resize_spec *s)
{
    if (s->in_h < 1 || s->in_w < 1 || s->out_h < 1 || s->out_w < 1 || s->in_h > SIDE_MAX ||
        s->in_w > SIDE_MAX || s->out_h > SIDE_MAX || s->out_w > SIDE_MAX)
        return cn_fail(ctx, CN_EINVAL,
                       "resize from %lldx%lld to %lldx%lld: sides must be 1..%d pixels",
                       (long long)s->in_w, (long long)s->in_h, (long long)s->out_w,
                       (long long)s->out_h, SIDE_MAX);
    if (s->channels < 1 || s->channels > 512)
        return cn_fail(ctx, CN_EINVAL, "resize: %lld channels, must be 1..512",
                       (long long)s->channels);
    if (s->factor != 0 && !(s->factor >= 1e-6 && s->factor <= 1e6))
        return cn_fail(ctx, CN_EINVAL, "resize: factor %g, must be 1e-6..1e6 (or 0 for none)",
                       s->factor);
    return CN_OK;
}

static void resize_nearest(const cn_resize_job *j, const unsigned char *in, size_t item,
                           unsigned char *out)
{
    size_t pixel = item * (size_t)j->channels;
    for (int64_t y = 0; y < j->out_h; y++) {
        int64_t sy = CN_MIN((int64_t)floor((double)y * j->scale_y), j->in_h - 1);
        const unsigned char *row = in + (size_t)(sy * j->in_w) * pixel;
        for (int64_t x = 0; x < j->out_w; x++, out += pixel) {
            int64_t sx = CN_MIN((int64_t)floor((double)x * j->scale_x), j->in_w - 1);
            memcpy(out, row + (size_t)sx * pixel, pixel);
        }
    }
}

static cn_status resize_any(cn_ctx *ctx, const cn_resize_spec *s, const void *in, bool is_f32,
                            void *out)
{
    CN_TRY(check_spec(ctx, s));
    cn_resize_job j = {.in_h = s->in_h,
                       .in_w = s->in_w,
                       .out_h = s->out_h,
                       .out_w = s->out_w,
                       .channels = s->channels,
                       .is_f32 = is_f32,
                       .filter = s->filter};
    /* Twice inverted as OpenCV does it: the last bit decides where floor() falls. */
    j.scale_x = 1.0 / (s->factor != 0 ? s->factor : (double)s->out_w / (double)s->in_w);
    j.scale_y = 1.0 / (s->factor != 0 ? s->factor : (double)s->out_h / (double)s->in_h);
    switch (s->filter) {
    case CN_FILTER_NEAREST: resize_nearest(&j, in, is_f32 ? sizeof(float) : 1, out); return CN_OK;
    case CN_FILTER_AREA:
        if (j.scale_x >= 1 && j.scale_y >= 1) return cn_resize_area(ctx, &j, in, out);
        return cn_resize_taps(ctx, &j, in, out);
    case CN_FILTER_LINEAR:
    case CN_FILTER_CUBIC:
    case CN_FILTER_LANCZOS4: return cn_resize_taps(ctx, &j, in, out);
    }
    return cn_fail(ctx, CN_EINVAL, "resize: unknown filter %d", (int)s->filter);
}

cn_status cn_resize_u8(cn_ctx *ctx, const cn_resize_spec *spec, const uint8_t *in, uint8_t *out)
{
    return resize_any(ctx, spec, in, false, out);
}

cn_status cn_resize_f32(cn_ctx *ctx, const cn_resize_spec *spec, const float *in, float *out)
{
    return resize_any(ctx, spec, in, true, out);
}

cn_status cn_image_resize(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                          cn_filter filter, cn_image **out)
{
    cn_resize_spec spec = {.filter = filter,
                           .in_h = in->height,
                           .in_w = in->width,
                           .out_h = height,
                           .out_w = width,
                           .channels = 3};
    CN_TRY(check_spec(ctx, &spec));
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, width, height, &image));
    cn_status s = cn_resize_u8(ctx, &spec, in->rgb, image->rgb);
    if (s != CN_OK) {
        cn_image_destroy(image);
        return s;
    }
    *out = image;
    return CN_OK;
}

cn_status cn_resize_64_size(cn_ctx *ctx, const cn_image *in, int64_t resolution, int64_t *w,
                            int64_t *h)
{
    if (resolution < 1 || resolution > SIDE_MAX)
        return cn_fail(ctx, CN_EINVAL, "resolution %lld: must be 1..%d pixels",
                       (long long)resolution, SIDE_MAX);
    double k = (double)resolution / (double)CN_MIN(in->height, in->width);
    double height = rint((double)in->height * k / 64.0) * 64.0;
    double width = rint((double)in->width * k / 64.0) * 64.0;
    if (height < 64 || width < 64 || height > CN_IMAGE_MAX_SIDE || width > CN_IMAGE_MAX_SIDE)
        return cn_fail(ctx, CN_EINVAL,
                       "a %lldx%lld picture at resolution %lld would become %.0fx%.0f: sides must "
                       "be 64..%d",
                       (long long)in->width, (long long)in->height, (long long)resolution, width,
                       height, CN_IMAGE_MAX_SIDE);
    *w = (int64_t)width;
    *h = (int64_t)height;
    return CN_OK;
}

cn_status cn_image_resize_64(cn_ctx *ctx, const cn_image *in, int64_t resolution, cn_image **out)
{
    int64_t w = 0, h = 0;
    CN_TRY(cn_resize_64_size(ctx, in, resolution, &w, &h));
    return cn_image_resize(
        ctx, in, w, h,
        resolution > CN_MIN(in->height, in->width) ? CN_FILTER_LANCZOS4 : CN_FILTER_AREA, out);
}

/* Of what a window leaves over before it; the middle as whole pixels have it. */
static int64_t place(int64_t left, double at)
{
    return CN_MIN(left, (int64_t)(at * (double)(left + (at != 0.5))));
}

/* What of `in` fills width x height, and how many times it is enlarged for that. */
static cn_status cut(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height, cn_crop crop,
                     double *scale, cn_image **out)
{
    if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX)
        return cn_fail(ctx, CN_EINVAL, "target of %lldx%lld: sides must be 1..%d pixels",
                       (long long)width, (long long)height, SIDE_MAX);
    double k = CN_MAX((double)width / (double)in->width, (double)height / (double)in->height);
    k /= crop.zoom;
    int64_t w = CN_MIN(in->width, CN_MAX(1, (int64_t)rint((double)width / k)));
    int64_t h = CN_MIN(in->height, CN_MAX(1, (int64_t)rint((double)height / k)));
    int64_t x = place(in->width - w, crop.x), y = place(in->height - h, crop.y);
    cn_image *part = NULL;
    CN_TRY(cn_image_create(ctx, w, h, &part));
    for (int64_t r = 0; r < h; r++)
        memcpy(part->rgb + r * w * 3, in->rgb + ((y + r) * in->width + x) * 3, (size_t)w * 3);
    *scale = k;
    *out = part;
    return CN_OK;
}

/* Cropping before resizing keeps the work bounded for a picture one pixel high. */
cn_status cn_image_resize_crop(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                               cn_crop crop, cn_image **out)
{
    cn_image *part = NULL;
    double k;
    CN_TRY(cut(ctx, in, width, height, crop, &k, &part));
    cn_filter filter = k > 1 ? CN_FILTER_LANCZOS4 : CN_FILTER_AREA;
    cn_status s = cn_image_resize(ctx, part, width, height, filter, out);
    cn_image_destroy(part);
    return s;
}

cn_status cn_image_resize_crop_labels(cn_ctx *ctx, const cn_image *in, int64_t width,
                                      int64_t height, cn_crop crop, cn_image **out)
{
    cn_image *part = NULL;
    double k;
    CN_TRY(cut(ctx, in, width, height, crop, &k, &part));
    cn_status s = cn_image_resize(ctx, part, width, height, CN_FILTER_NEAREST, out);
    cn_image_destroy(part);
    return s;
}

cn_status cn_image_resize_cover(cn_ctx *ctx, const cn_image *in, int64_t width, int64_t height,
                                cn_image **out)
{
    return cn_image_resize_crop(ctx, in, width, height, (cn_crop){0.5, 0.5, 1}, out);
}

cn_status cn_hwc3(cn_ctx *ctx, const uint8_t *in, int channels, size_t pixels, uint8_t *rgb)
{
    switch (channels) {
    case 1:
        for (size_t i = 0; i < pixels; i++) rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = in[i];
        return CN_OK;
    case 3: memcpy(rgb, in, pixels * 3); return CN_OK;
    case 4:
        for (size_t i = 0; i < pixels; i++) {
            float a = (float)in[4 * i + 3] / 255.0f;
            for (size_t c = 0; c < 3; c++) {
                float v = (float)in[4 * i + c] * a + 255.0f * (1.0f - a);
                rgb[3 * i + c] = (uint8_t)CN_MAX(0.0f, CN_MIN(255.0f, v));
            }
        }
        return CN_OK;
    default:
        return cn_fail(ctx, CN_EINVAL, "%d channels in a picture: must be 1, 3 or 4", channels);
    }
}
