/* SPDX-License-Identifier: Apache-2.0 */
/* api_files.c - controlnet.h's calls on images and checkpoints.
 *
 * Drawing is in draw.c, conditions in annotate.c, data sets in dataset.c and prepare.c. They only
 * put together what the folders below offer.
 */
#include "image/image.h"
#include "cpu/cpu.h"
#include "model/checkpoint/weights.h"

int64_t cn_image_width(const cn_image *image)
{
    return image->width;
}
int64_t cn_image_height(const cn_image *image)
{
    return image->height;
}
uint8_t *cn_image_rgb(cn_image *image)
{
    return image->rgb;
}

/* --- checkpoints ------------------------------------------------------------------------------ */

cn_status cn_inspect(cn_ctx *ctx, const char *path, bool json, char **text)
{
    cn_str out = {0};
    cn_status s = cn_weights_inspect(ctx, path, json, &out);
    if (s == CN_OK && !(*text = cn_strdup(ctx, out.data ? out.data : ""))) s = CN_ENOMEM;
    cn_str_free(&out);
    return s;
}

static cn_status find_type(cn_ctx *ctx, const char *dtype, cn_dtype *type)
{
    if (cn_weight_type_find(dtype, type)) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "element type %.32s: f32, f16 or bf16 is expected", dtype);
}

cn_status cn_transfer(cn_ctx *ctx, const char *from_base, const char *to_base, const char *in,
                      const char *out, bool to_single_file, const char *dtype)
{
    cn_dtype type;
    CN_TRY(find_type(ctx, dtype, &type));
    return cn_weights_transfer(ctx, from_base, to_base, in, out, to_single_file, type);
}

cn_status cn_convert(cn_ctx *ctx, const char *in, const char *out, bool to_single_file,
                     const char *dtype)
{
    cn_dtype type;
    CN_TRY(find_type(ctx, dtype, &type));
    cn_backend *be = NULL;
    CN_TRY(cn_backend_cpu_create(ctx, &be));
    cn_status s = cn_weights_convert(ctx, be, in, out, to_single_file, type);
    be->destroy(be);
    return s;
}
