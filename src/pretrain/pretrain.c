/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain.c - training a small Stable Diffusion from scenes: sizes, stages in turn, notes and
 * sheets. */
#include "pretrain/pretrain.h"

#include "base/dtype.h"
#include "cpu/cpu.h"
#include "image/image.h"
#include "model/text/bpe.h"
#include "model/checkpoint/config_io.h"

#include <math.h>
#include <string.h>

void cn_pretrain_options_default(cn_pretrain_options *o)
{
    *o = (cn_pretrain_options){.seed = 1,
                               .save_steps = 500,
                               .decay_part = 0.2,
                               .max_grad_norm = 1,
                               .size_px = 128,
                               .latent_channels = 8,
                               .vae_widths = {16, 32, 64, 96},
                               .unet_widths = {96, 128, 160},
                               .vae_groups = 4,
                               .unet_groups = 16,
                               .text_width = 128,
                               .text_positions = 32,
                               .vocabulary = 800,
                               .vae_steps = 40000,
                               .vae_batch = 8,
                               .vae_passes = 1,
                               .crop_px = 64,
                               .full_part = 0.1,
                               .vae_lr = 1e-3,
                               .vae_ema = 0.999,
                               .mse_weight = 1,
                               .edge_weight = 0.5,
                               .kl_weight = 1e-4,
                               .unet_steps = 60000,
                               .unet_batch = 32,
                               .unet_passes = 1,
                               .scenes = 60000,
                               .scenes_ahead = 8000,
                               .unet_lr = 8e-4,
                               .unet_ema = 0.9995,
                               .v_prediction = true};
}

void cn_pretrain_configs(const cn_pretrain_options *o, cn_base *b)
{
    b->vae = (cn_vae_config){.image_channels = 3,
                             .latent_channels = o->latent_channels,
                             .levels = CN_PRETRAIN_VAE_LEVELS,
                             .layers_per_block = 1,
                             .norm_groups = (int)o->vae_groups,
                             .scaling_factor = 1.0f};
    memcpy(b->vae.channels, o->vae_widths, sizeof o->vae_widths);
    b->clip = (cn_clip_config){.vocabulary = o->vocabulary,
                               .hidden = o->text_width,
                               .intermediate = 4 * o->text_width,
                               .max_positions = o->text_positions,
                               .layers = 4,
                               .heads = 2,
                               .act = CN_ACT_QUICK_GELU,
                               .layer_norm_eps = 1e-5f};
    b->unet = (cn_unet_config){.in_channels = o->latent_channels,
                               .out_channels = o->latent_channels,
                               .levels = CN_PRETRAIN_UNET_LEVELS,
                               .attention = {true, true, false},
                               .heads = {4, 4, 4},
                               .layers_per_block = 1,
                               .context_dim = o->text_width,
                               .norm_groups = (int)o->unet_groups,
                               .sample_size = o->size_px >> (CN_PRETRAIN_VAE_LEVELS - 1)};
    memcpy(b->unet.channels, o->unet_widths, sizeof o->unet_widths);
    cn_schedule_config_default(&b->schedule);
    b->schedule.v_prediction = o->v_prediction;
    b->schedule.zero_snr = o->zero_snr;
    if (o->zero_snr) b->schedule.spacing = CN_SPACING_TRAILING; /* the last timestep is visited */
}

/* --- reports ---------------------------------------------------------------------------------- */

cn_status cn_pretrain_note(cn_pretrain_run *r, const char *fmt, ...)
{
    char path[4200], line[1024];
    CN_TRY(cn_format(r->ctx, path, sizeof path, "%s/training.jsonl", r->o->output_dir));
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    FILE *f = fopen(path, "a");
    if (!f) return cn_fail(r->ctx, CN_EIO, "%s can't be written", path);
    bool ok = fprintf(f, "%s\n", line) > 0;
    ok = fclose(f) == 0 && ok;
    return ok ? CN_OK : cn_fail(r->ctx, CN_EIO, "%s can't be written", path);
}

void cn_pretrain_progress(cn_pretrain_run *r, const char *stage, int64_t step, int64_t steps,
                          double loss)
{
    if (r->o->progress)
        r->o->progress(r->o->user, stage, step, steps, loss, cn_now_s() - r->started_s);
}

static uint8_t to_byte(float x)
{
    float v = (x * 0.5f + 0.5f) * 255.0f;
    return (uint8_t)lrintf(v < 0 ? 0 : v > 255 ? 255 : v);
}

cn_status cn_pretrain_sheet(cn_pretrain_run *r, const char *path, const float *pictures, int n,
                            int columns, int64_t size_px)
{
    int rows = (n + columns - 1) / columns;
    cn_image *sheet = NULL;
    CN_TRY(cn_image_create(r->ctx, columns * size_px, rows * size_px, &sheet));
    for (int i = 0; i < n; i++)
        for (int64_t y = 0; y < size_px; y++)
            for (int64_t x = 0; x < size_px * 3; x++)
                sheet
                    ->rgb[((i / columns * size_px + y) * columns + i % columns) * size_px * 3 + x] =
                    to_byte(pictures[(i * size_px + y) * size_px * 3 + x]);
    cn_status s = cn_image_save_png(r->ctx, path, sheet, NULL);
    cn_image_destroy(sheet);
    return s;
}

/* --- stages ----------------------------------------------------------------------------------- */

static bool wants(const cn_pretrain_options *o, const char *stage)
{
    return o->stage && strcmp(o->stage, stage) == 0;
}

static cn_status check_widths(cn_ctx *ctx, const char *what, const int64_t *widths, int n,
                              int64_t multiple)
{
    for (int i = 0; i < n; i++)
        if (widths[i] < multiple || widths[i] % multiple)
            return cn_fail(ctx, CN_EINVAL, "%s of %lld channels: multiples of %lld are possible",
                           what, (long long)widths[i], (long long)multiple);
    return CN_OK;
}

static cn_status check_sizes(cn_ctx *ctx, const cn_pretrain_options *o)
{
    if (o->size_px < 64 || o->size_px % 32)
        return cn_fail(ctx, CN_EINVAL, "the picture size must be a multiple of 32, at least 64");
    if (o->crop_px < 32 || o->crop_px % 8 || o->crop_px > o->size_px)
        return cn_fail(ctx, CN_EINVAL,
                       "crops of %lld px: a multiple of 8 from 32 to the picture's %lld",
                       (long long)o->crop_px, (long long)o->size_px);
    if (o->vae_groups < 1 || o->unet_groups < 1)
        return cn_fail(ctx, CN_EINVAL, "norms have one group or more");
    CN_TRY(check_widths(ctx, "a VAE", o->vae_widths, CN_PRETRAIN_VAE_LEVELS, o->vae_groups));
    CN_TRY(check_widths(ctx, "a UNet", o->unet_widths, CN_PRETRAIN_UNET_LEVELS, o->unet_groups));
    CN_TRY(check_widths(ctx, "a text encoder", &o->text_width, 1, 64));
    if (o->latent_channels < 1 || o->latent_channels > 64 || o->text_positions < 8 ||
        o->text_positions > 77 || o->vocabulary < CN_BPE_MIN_VOCAB)
        return cn_fail(ctx, CN_EINVAL,
                       "1 to 64 latent channels, 8 to 77 text positions and a vocabulary of at "
                       "least %d are possible",
                       (int)CN_BPE_MIN_VOCAB);
    return CN_OK;
}

static cn_status check_options(cn_ctx *ctx, const cn_pretrain_options *o)
{
    if (!o->output_dir) return cn_fail(ctx, CN_EINVAL, "an output folder is needed");
    if (o->stage && !wants(o, "vae") && !wants(o, "unet") && !wants(o, "decoder"))
        return cn_fail(ctx, CN_EINVAL, "stage %s: vae, unet or decoder", o->stage);
    if (o->vae_steps < 1 || o->unet_steps < 1 || o->vae_batch < 1 || o->unet_batch < 1 ||
        o->vae_passes < 1 || o->unet_passes < 1 || o->scenes < o->unet_batch || o->save_steps < 1)
        return cn_fail(ctx, CN_EINVAL,
                       "steps, batches and scenes must be positive, scenes at least a batch");
    if (!(o->decay_part >= 0 && o->decay_part <= 1 && o->full_part >= 0 && o->full_part <= 1))
        return cn_fail(ctx, CN_EINVAL, "parts of the steps are from 0 to 1");
    if (o->zero_snr && !o->v_prediction)
        return cn_fail(ctx, CN_EINVAL,
                       "with zero terminal SNR the noise can't be predicted at the last timestep; "
                       "v can");
    return check_sizes(ctx, o);
}

static cn_status make_networks(cn_pretrain_run *r)
{
    struct {
        cn_net net;
        cn_params **at;
    } const networks[] = {{CN_NET_VAE, &r->vae}, {CN_NET_UNET, &r->unet}, {CN_NET_TEXT, &r->text}};
    if (r->o->bf16 && !r->be->computes(r->be, CN_BF16))
        return cn_fail(r->ctx, CN_EINVAL, "this processor doesn't multiply bfloat16");
    for (size_t i = 0; i < CN_COUNT(networks); i++) {
        CN_TRY(cn_net_params(r->ctx, networks[i].net, networks[i].at));
        if (r->o->bf16 && networks[i].at != &r->vae)
            cn_params_set_compute(*networks[i].at, CN_BF16);
    }
    return CN_OK;
}

cn_status cn_pretrain(cn_ctx *ctx, const cn_pretrain_options *o)
{
    CN_TRY(check_options(ctx, o));
    cn_pretrain_run r = {.ctx = ctx, .o = o, .started_s = cn_now_s()};
    cn_status s = cn_format(ctx, r.state_dir, sizeof r.state_dir, "%s/state", o->output_dir);
    if (s == CN_OK) s = cn_dir_make(ctx, r.state_dir);
    if (s == CN_OK) s = cn_backend_cpu_create(ctx, &r.be);
    if (s == CN_OK && !(r.base = cn_alloc0(ctx, sizeof *r.base))) s = CN_ENOMEM;
    if (s != CN_OK) goto done;
    cn_pretrain_configs(o, r.base);
    if ((s = make_networks(&r)) != CN_OK) goto done;
    if (!o->stage || wants(o, "vae")) s = cn_pretrain_vae(&r);
    if (s == CN_OK && (!o->stage || wants(o, "unet"))) s = cn_pretrain_unet(&r);
    if (s == CN_OK && wants(o, "decoder")) s = cn_pretrain_decoder(&r);
done:
    cn_params_destroy(r.unet);
    cn_params_destroy(r.vae);
    cn_params_destroy(r.text);
    cn_free(r.base);
    if (r.be) r.be->destroy(r.be);
    return s;
}
