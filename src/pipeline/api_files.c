/* SPDX-License-Identifier: Apache-2.0 */
/* api_files.c - controlnet.h's calls on images and checkpoints.
 *
 * Drawing is in pipeline.c, conditions in api_annotate.c, data sets in api_dataset.c and prepare.c.
 * They only put together what the folders below offer.
 */
#include "base/option.h"
#include "image/image.h"
#include "device/device.h"
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

#define FIELD(member) CN_FIELD(cn_convert_options, member)

const cn_option cn_convert_option_rows[] = {
    {.help = "Options"},
    {"dtype", 0, NULL, FIELD(dtype), .words = (const char *const[]){"f32", "f16", "bf16", NULL},
     .preset = "f16"},
    {"out-of-range", 0,
     "tensors with values that the type can't hold: keep writes them as f32 and names them, refuse "
     "writes nothing",
     CN_FIELD_AS(CN_FIELD_EITHER, cn_convert_options, refuse_out_of_range),
     .words = (const char *const[]){"keep", "refuse", NULL}, .preset = "keep"},
    {"vae", 0, "the base model's VAE instead of IN's own", FIELD(vae), .arg = "FILE|DIR"},
    {0},
};

cn_status cn_convert(cn_ctx *ctx, const char *in, const char *out,
                     const cn_convert_options *options)
{
    static const cn_convert_options none = {0};
    const cn_convert_options *o = options ? options : &none;
    cn_convert_job job = {.in = in,
                          .out = out,
                          .single = o->to_single_file,
                          .dtype = CN_F16,
                          .refuse_out_of_range = o->refuse_out_of_range,
                          .from_base = o->from_base,
                          .to_base = o->to_base,
                          .vae = o->vae};
    cn_backend *be = NULL;
    CN_TRY(cn_options_check(ctx, cn_convert_option_rows, o));
    if (o->dtype && !cn_weight_type_find(o->dtype, &job.dtype))
        return cn_fail(ctx, CN_EINTERNAL, "no file is written as %s", o->dtype);
    CN_TRY(cn_backend_create(ctx, NULL, &be));
    cn_status s = cn_weights_convert(ctx, be, &job);
    be->destroy(be);
    return s;
}
