/* SPDX-License-Identifier: Apache-2.0 */
/* jpeg_write.c - RGB to baseline JPEG in memory by libjpeg. Memory that it took is in a struct that
 * outlives the jump out of an error, as in jpeg.c. */
#include "image/image.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

typedef struct encoder {
    struct jpeg_error_mgr errors;
    struct jpeg_compress_struct jpeg;
    jmp_buf jump;
    unsigned char *bytes;
    unsigned long n;
    char message[JMSG_LENGTH_MAX];
} encoder;

static void on_error(j_common_ptr common)
{
    encoder *e = common->client_data;
    common->err->format_message(common, e->message);
    longjmp(e->jump, 1);
}

/* Colours at full resolution: edges of drawn pictures would bleed otherwise. */
static bool encode(encoder *e, const cn_image *image, int quality)
{
    struct jpeg_compress_struct *j = &e->jpeg;
    if (setjmp(e->jump)) return false;
    jpeg_create_compress(j);
    jpeg_mem_dest(j, &e->bytes, &e->n);
    j->image_width = (JDIMENSION)image->width;
    j->image_height = (JDIMENSION)image->height;
    j->input_components = 3;
    j->in_color_space = JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, quality, TRUE);
    for (int c = 0; c < 3; c++) j->comp_info[c].h_samp_factor = j->comp_info[c].v_samp_factor = 1;
    jpeg_start_compress(j, TRUE);
    while (j->next_scanline < j->image_height) {
        JSAMPROW row = image->rgb + (size_t)j->next_scanline * (size_t)image->width * 3;
        (void)jpeg_write_scanlines(j, &row, 1);
    }
    jpeg_finish_compress(j);
    return true;
}

cn_status cn_jpeg_encode(cn_ctx *ctx, const cn_image *image, int quality, uint8_t **out, size_t *n)
{
    encoder *e = cn_alloc0(ctx, sizeof *e);
    if (!e) return CN_ENOMEM;
    cn_status s = CN_OK;
    uint8_t *copy = NULL;
    e->jpeg.err = jpeg_std_error(&e->errors);
    e->jpeg.client_data = e;
    e->errors.error_exit = on_error;
    if (!encode(e, image, quality))
        s = cn_fail(ctx, CN_EINVAL, "a picture of %lld x %lld px as JPEG: %s",
                    (long long)image->width, (long long)image->height, e->message);
    else if (!(copy = cn_alloc(ctx, e->n)))
        s = CN_ENOMEM;
    if (copy) {
        memcpy(copy, e->bytes, e->n);
        *out = copy;
        *n = e->n;
    }
    jpeg_destroy_compress(&e->jpeg);
    free(e->bytes);
    cn_free(e);
    return s;
}
