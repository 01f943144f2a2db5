/* SPDX-License-Identifier: Apache-2.0 */
/* jpeg.c - libjpeg: decoding from memory to RGB, upright.
 *
 * libjpeg reports errors by a callback that must not return, hence longjmp; as in png.c, what
 * outlives the jump lies in a struct of the caller. A picture that ends early is an error here, not
 * a grey rest.
 */
#include "image/image_internal.h"

#include <setjmp.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* MAX_SCANS: a progressive file of a few bytes can ask for thousands of passes over a large
 * picture. MAX_PX_PER_BYTE: a black baseline picture takes one byte for 170 px. */
enum { MAX_SCANS = 500, MAX_PX_PER_BYTE = 8192 };

typedef struct decoder {
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf jump;
    cn_ctx *ctx;
    size_t n;
    cn_image *image;
    uint8_t *cmyk; /* one row */
    int orientation;
    bool size_only;
    cn_status status;
    char message[JMSG_LENGTH_MAX];
} decoder;

static void on_error(j_common_ptr common)
{
    decoder *d = common->client_data;
    common->err->format_message(common, d->message);
    longjmp(d->jump, 1);
}

/* Warnings that mean missing or broken picture data end the decoding; others (stray bytes) pass. */
static void on_message(j_common_ptr common, int level)
{
    if (level >= 0) return;
    switch (common->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE: on_error(common); break;
    default: common->err->num_warnings++;
    }
}

static void on_output(j_common_ptr common)
{
    (void)common;
}

static void on_progress(j_common_ptr common)
{
    decoder *d = common->client_data;
    if (d->jpeg.input_scan_number <= MAX_SCANS) return;
    snprintf(d->message, sizeof d->message, "more than %d scans", MAX_SCANS);
    longjmp(d->jump, 1);
}

static int find_orientation(const decoder *d)
{
    for (jpeg_saved_marker_ptr m = d->jpeg.marker_list; m; m = m->next) {
        int o = m->marker == JPEG_APP0 + 1 ? cn_exif_orientation(m->data, m->data_length) : 1;
        if (o != 1) return o;
    }
    return 1;
}

static cn_status prepare(decoder *d)
{
    int64_t width = d->jpeg.image_width, height = d->jpeg.image_height;
    CN_TRY(cn_image_check_size(d->ctx, width, height));
    d->orientation = find_orientation(d);
    if (d->size_only) return CN_OK;
    if ((uint64_t)(width * height) / MAX_PX_PER_BYTE > d->n)
        return cn_fail(d->ctx, CN_EFORMAT, "damaged JPEG: %zu bytes can't hold %lld x %lld px",
                       d->n, (long long)width, (long long)height);
    bool cmyk = d->jpeg.jpeg_color_space == JCS_CMYK || d->jpeg.jpeg_color_space == JCS_YCCK;
    d->jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    CN_TRY(cn_image_alloc(d->ctx, width, height, 3, &d->image));
    if (!cmyk) return CN_OK;
    d->cmyk = cn_alloc(d->ctx, (size_t)width * 4);
    return d->cmyk ? CN_OK : CN_ENOMEM;
}

/* Files with Adobe's marker hold the inks inverted. */
static void cmyk_row(const uint8_t *src, uint8_t *dst, int64_t width, bool inverted)
{
    for (int64_t x = 0; x < width; x++) {
        int k = inverted ? src[4 * x + 3] : 255 - src[4 * x + 3];
        for (int c = 0; c < 3; c++) {
            int ink = inverted ? src[4 * x + c] : 255 - src[4 * x + c];
            dst[3 * x + c] = (uint8_t)((ink * k + 127) / 255);
        }
    }
}

static void decode(decoder *d, const uint8_t *bytes)
{
    struct jpeg_decompress_struct *j = &d->jpeg;
    if (setjmp(d->jump)) {
        d->status = cn_fail(d->ctx, CN_EFORMAT, "damaged JPEG: %s", d->message);
        return;
    }
    jpeg_create_decompress(j);
    j->progress = &d->progress;
    jpeg_mem_src(j, bytes, (unsigned long)d->n);
    jpeg_save_markers(j, JPEG_APP0 + 1, 0xffff);
    (void)jpeg_read_header(j, TRUE);
    d->status = prepare(d);
    if (d->status != CN_OK || d->size_only) return;
    (void)jpeg_start_decompress(j);
    while (j->output_scanline < j->output_height) {
        uint8_t *dst = d->image->rgb + (size_t)j->output_scanline * (size_t)d->image->width * 3;
        JSAMPROW row = d->cmyk ? d->cmyk : dst;
        (void)jpeg_read_scanlines(j, &row, 1);
        if (d->cmyk) cmyk_row(d->cmyk, dst, d->image->width, j->saw_Adobe_marker);
    }
    (void)jpeg_finish_decompress(j);
}

static decoder *decoder_create(cn_ctx *ctx, size_t n)
{
    decoder *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return NULL;
    d->ctx = ctx;
    d->n = n;
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->errors.output_message = on_output;
    d->progress.progress_monitor = on_progress;
    return d;
}

static cn_status size(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_picture_size *out)
{
    decoder *d = decoder_create(ctx, n);
    if (!d) return CN_ENOMEM;
    d->size_only = true;
    decode(d, bytes);
    const cn_status s = d->status;
    if (s == CN_OK)
        *out = (cn_picture_size){d->jpeg.image_width, d->jpeg.image_height, d->orientation};
    jpeg_destroy_decompress(&d->jpeg);
    cn_free(d);
    return s;
}

static cn_status decode_file(cn_ctx *ctx, const uint8_t *bytes, size_t n, cn_alpha alpha,
                             cn_image **out)
{
    (void)alpha; /* it has none */
    decoder *d = decoder_create(ctx, n);
    if (!d) return CN_ENOMEM;
    decode(d, bytes);
    cn_status s = d->status;
    if (s == CN_OK) s = cn_image_orient(ctx, &d->image, d->orientation);
    jpeg_destroy_decompress(&d->jpeg);
    if (s == CN_OK)
        *out = d->image;
    else
        cn_image_destroy(d->image);
    cn_free(d->cmyk);
    cn_free(d);
    return s;
}

const cn_picture_format cn_picture_jpeg = {
    .name = "JPEG", .ending = "jpg", .size = size, .decode = decode_file};
