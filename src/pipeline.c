/* pipeline.c - controlnet.h's calls on images, conditions and checkpoints.
 *
 * Drawing is in pipeline_draw.c. Both only put together what the folders below offer.
 */
#include "annotate/annotate.h"
#include "cpu/cpu.h"
#include "model/weights.h"

#include <string.h>

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

/* --- conditions ------------------------------------------------------------------------------------- */

cn_status cn_annotate_image(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                            const cn_image *in, cn_image **out)
{
    const cn_annotator *a = NULL;
    cn_annotate_args args;
    CN_TRY(cn_annotator_need(ctx, kind, &a));
    cn_annotate_defaults(a, &args);
    if (options) {
        args.resolution = options->resolution;
        args.weights = options->weights;
        for (const char *const *s = options->settings; s && *s; s++)
            CN_TRY(cn_annotate_parse(ctx, &args, *s));
    }
    return cn_annotate(ctx, &args, in, out);
}

cn_status cn_annotate_file(cn_ctx *ctx, const char *kind, const cn_annotate_options *options,
                           const char *in, const char *out)
{
    cn_image *image = NULL, *condition = NULL;
    CN_TRY(cn_image_load(ctx, in, &image));
    cn_status s = cn_annotate_image(ctx, kind, options, image, &condition);
    cn_image_destroy(image);
    if (s == CN_OK) s = cn_image_save_png(ctx, out, condition, NULL);
    cn_image_destroy(condition);
    return s;
}

const char *cn_annotate_kind(int i, const char **title)
{
    const cn_annotator *a = cn_annotator_at(i);
    if (!a) return NULL;
    if (title) *title = a->title;
    return a->name;
}

bool cn_annotate_setting_at(const char *kind, int i, cn_annotate_setting *out)
{
    const cn_annotator *a = cn_annotator_find(kind);
    if (!a || i < 0 || i >= a->n_options) return false;
    const cn_annotator_option *o = &a->options[i];
    *out = (cn_annotate_setting){.name = o->name,
                                 .help = o->help,
                                 .is_switch = o->type == CN_OPTION_BOOL,
                                 .whole = o->type == CN_OPTION_INT,
                                 .min = o->min,
                                 .max = o->max,
                                 .otherwise = o->otherwise};
    return true;
}

/* --- checkpoints ------------------------------------------------------------------------------------ */

cn_status cn_inspect(cn_ctx *ctx, const char *path, bool json, char **text)
{
    cn_str out = {0};
    cn_status s = cn_weights_inspect(ctx, path, json, &out);
    if (s == CN_OK && !(*text = cn_strdup(ctx, out.data ? out.data : ""))) s = CN_ENOMEM;
    cn_str_free(&out);
    return s;
}

cn_status cn_convert(cn_ctx *ctx, const char *in, const char *out, bool to_single_file,
                     const char *dtype)
{
    cn_dtype type;
    if (!cn_weight_type_find(dtype, &type))
        return cn_fail(ctx, CN_EINVAL, "element type %.32s: f32, f16 or bf16 is expected", dtype);
    cn_backend *be = NULL;
    CN_TRY(cn_backend_cpu_create(ctx, &be));
    cn_status s = cn_weights_convert(ctx, be, in, out, to_single_file, type);
    be->destroy(be);
    return s;
}
