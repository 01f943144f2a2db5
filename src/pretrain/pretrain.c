/* SPDX-License-Identifier: Apache-2.0 */
/* pretrain.c - training a small Stable Diffusion from scenes: sizes, stages in turn, notes and
 * sheets. */
#include "pretrain/pretrain.h"

#include "base/lock.h"
#include "base/option.h"
#include "base/dtype.h"
#include "device/device.h"
#include "image/image.h"
#include "model/text/bpe.h"
#include "model/checkpoint/config_io.h"

#include <math.h>
#include <string.h>

#define MANY                 (INT64_C(1) << 30)
#define FIELD(member)        CN_FIELD(cn_pretrain_options, member)
#define FIELD_EITHER(member) CN_FIELD_AS(CN_FIELD_EITHER, cn_pretrain_options, member)
#define WORDS(...)                 \
    .words = (const char *const[]) \
    {                              \
        __VA_ARGS__, NULL          \
    }

const cn_option cn_pretrain_option_rows[] = {
    {.help = "Training"},
    {"output-dir", 'o', "becomes a diffusers folder; state in DIR/state", FIELD(output_dir),
     .arg = "DIR"},
    {"stage", 0,
     "one stage alone; decoder: goes on with the finished VAE's, by --vae-steps, -batch and -lr",
     FIELD(stage), WORDS("vae", "unet", "decoder"), .unset = "vae and unet in turn"},
    {"start-from", 0,
     "weights and tokens as this diffusers folder has them, not from scratch; a stage that was "
     "begun goes on "
     "from its state",
     FIELD(start_from), .arg = "DIR"},
    {"save-steps", 0,
     "state, model and sheet of pictures every N steps; the state every 5 minutes, too",
     FIELD(save_steps), 1, MANY, .preset = "500"},
    {"mixed-precision", 0, "what text encoder and UNet compute in", FIELD_EITHER(bf16),
     WORDS("no", "bf16"), .preset = "no"},
    {"optimizer", 0,
     "muon: weights of convolutions and linear layers by Muon, at the same learning rate",
     FIELD_EITHER(muon), WORDS("adamw", "muon"), .preset = "adamw"},
    {"decay-part", 0,
     "last part of the steps, over which the learning rate falls; it stays until then",
     FIELD(decay_part), 0, 1, .preset = "0.2"},
    {"max-grad-norm", 0, "longer gradients are clipped; 0: none are", FIELD(max_grad_norm), 0, 1e6,
     .preset = "1"},

    {.help = "Sizes (a stopped run keeps its own)"},
    {"size", 0, "width and height, multiple of 32", FIELD(size_px), 64, 1024, .preset = "128",
     .arg = "PX"},
    {"latent-channels", 0, NULL, FIELD(latent_channels), 1, 64, .preset = "8"},
    {"vae-widths", 0, "channels, finest first", FIELD(vae_widths), 1, 4096,
     .values = CN_PRETRAIN_VAE_LEVELS, .preset = "16,32,64,96", .arg = "A,B,C,D"},
    {"unet-widths", 0, NULL, FIELD(unet_widths), 1, 4096, .values = CN_PRETRAIN_UNET_LEVELS,
     .preset = "96,128,160", .arg = "A,B,C"},
    {"unet-transformers", 0, "in a row at each level, finest first; 0: none",
     FIELD(unet_transformers), 0, 64, .values = CN_PRETRAIN_UNET_LEVELS, .preset = "1,1,0",
     .arg = "A,B,C"},
    {"vae-groups", 0, "of its norms", FIELD(vae_groups), 1, 4096, .preset = "4"},
    {"unet-groups", 0, NULL, FIELD(unet_groups), 1, 4096, .preset = "16"},
    {"text-width", 0, "of the text encoder", FIELD(text_width), 64, 4096, .preset = "128"},
    {"text-positions", 0, "tokens of a prompt", FIELD(text_positions), 8, 77, .preset = "32"},
    {"vocabulary", 0, "tokens to learn from captions", FIELD(vocabulary), CN_BPE_MIN_VOCAB, 65536,
     .preset = "800"},

    {.help = "VAE"},
    {"vae-steps", 0, NULL, FIELD(vae_steps), 1, MANY, .preset = "40000"},
    {"vae-batch", 0, "whole pictures per pass; twice as many crops", FIELD(vae_batch), 1, 4096,
     .preset = "8"},
    {"vae-accumulation", 0, "passes per step", FIELD(vae_passes), 1, 4096, .preset = "1"},
    {"crop", 0, "side of the crops that most steps see", FIELD(crop_px), 32, 1024, .preset = "64",
     .arg = "PX"},
    {"full-part", 0, "last part of the steps, on whole pictures", FIELD(full_part), 0, 1,
     .preset = "0.1"},
    {"vae-lr", 0, "learning rate after the warm-up", FIELD(vae_lr), 0, 1, .preset = "1e-3"},
    {"vae-ema", 0, "decay of the weights' mean", FIELD(vae_ema), 0, 0.99999, .preset = "0.999"},
    {"mse-weight", 0, "squared error beside the absolute one", FIELD(mse_weight), 0, 1000,
     .preset = "1"},
    {"edge-weight", 0, "error of differences between pixels", FIELD(edge_weight), 0, 1000,
     .preset = "0.5"},
    {"kl-weight", 0, "per latent value", FIELD(kl_weight), 0, 1000, .preset = "1e-4"},
    {"half-size-weight", 0,
     "errors of half-size pictures decoded from half-size latents: smooth latents, which the UNet "
     "learns sooner",
     FIELD(half_size_weight), 0, 1000, .preset = "0"},

    {.help = "Text encoder and UNet"},
    {"unet-steps", 0, NULL, FIELD(unet_steps), 1, MANY, .preset = "60000"},
    {"unet-batch", 0, "pictures per pass", FIELD(unet_batch), 1, 4096, .preset = "32"},
    {"unet-accumulation", 0, "passes per step", FIELD(unet_passes), 1, 4096, .preset = "1"},
    {"unet-lr", 0, NULL, FIELD(unet_lr), 0, 1, .preset = "8e-4"},
    {"unet-ema", 0, NULL, FIELD(unet_ema), 0, 0.99999, .preset = "0.9995"},
    {"scenes", 0, "to train on", FIELD(scenes), 1, MANY, .preset = "60000"},
    {"scenes-ahead", 0,
     "of these encoded before the first step; the others join over the first half of the steps",
     FIELD(scenes_ahead), 1, MANY, .preset = "8000"},
    {"prediction-type", 0, NULL, FIELD_EITHER(v_prediction), WORDS("epsilon", "v_prediction"),
     .preset = "v_prediction"},
    {"rescale-betas-zero-snr", 0, "the last timestep is noise alone", FIELD(zero_snr)},
    {"snr-gamma", 0, "min-SNR weighting; 0: none", FIELD(snr_gamma), 0, 1000, .preset = "0"},

    {.help = "Both"},
    CN_DEVICE_ROW(cn_pretrain_options, device),
    {"seed", 's', "of training and its sequence of scenes", FIELD(seed), .preset = "1"},
    {0},
};

void cn_pretrain_options_default(cn_pretrain_options *o)
{
    *o = (cn_pretrain_options){0};
    cn_options_preset(cn_pretrain_option_rows, o);
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
    b->text[0] = (cn_clip_config){.vocabulary = o->vocabulary,
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
                               .heads = {4, 4, 4},
                               .layers_per_block = 1,
                               .context_dim = o->text_width,
                               .norm_groups = (int)o->unet_groups,
                               .sample_size = o->size_px >> (CN_PRETRAIN_VAE_LEVELS - 1)};
    memcpy(b->unet.channels, o->unet_widths, sizeof o->unet_widths);
    for (int i = 0; i < CN_PRETRAIN_UNET_LEVELS; i++) {
        b->unet.attention[i] = o->unet_transformers[i] > 0;
        b->unet.transformer_layers[i] = (int)CN_MAX(o->unet_transformers[i], 1);
    }
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
    FILE *f = NULL;
    CN_TRY(cn_file_append(r->ctx, path, false, &f));
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
    if (o->size_px % 32)
        return cn_fail(ctx, CN_EINVAL, "--size %lld: must be a multiple of 32",
                       (long long)o->size_px);
    if (o->crop_px % 8 || o->crop_px > o->size_px)
        return cn_fail(ctx, CN_EINVAL, "--crop %lld: must be a multiple of 8, at most --size, %lld",
                       (long long)o->crop_px, (long long)o->size_px);
    CN_TRY(check_widths(ctx, "a VAE", o->vae_widths, CN_PRETRAIN_VAE_LEVELS, o->vae_groups));
    CN_TRY(check_widths(ctx, "a UNet", o->unet_widths, CN_PRETRAIN_UNET_LEVELS, o->unet_groups));
    return check_widths(ctx, "a text encoder", &o->text_width, 1, 64);
}

static cn_status check_options(cn_ctx *ctx, const cn_pretrain_options *o)
{
    if (!o->output_dir) return cn_fail(ctx, CN_EINVAL, "an output folder is needed");
    CN_TRY(cn_options_check(ctx, cn_pretrain_option_rows, o));
    if (o->scenes < o->unet_batch)
        return cn_fail(ctx, CN_EINVAL, "--scenes %lld: must be at least --unet-batch, %lld",
                       (long long)o->scenes, (long long)o->unet_batch);
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
        return cn_fail(r->ctx, CN_EINVAL, "%s doesn't multiply bfloat16",
                       r->be->addressable ? "this processor" : "the device");
    for (size_t i = 0; i < CN_COUNT(networks); i++) {
        CN_TRY(cn_net_params(r->ctx, networks[i].net, networks[i].at));
        if (r->o->bf16 && networks[i].at != &r->vae)
            cn_params_set_compute(*networks[i].at, CN_BF16);
    }
    return CN_OK;
}

/* A device that fails takes no more than the steps since the last save. */
static cn_status tell_saved(const cn_pretrain_run *r, cn_status s)
{
    char why[1024];
    const bool failed = s == CN_EIO || s == CN_ENOMEM;
    if (!failed || !r->be || r->be->addressable) return s;
    snprintf(why, sizeof why, "%s", cn_error(r->ctx));
    return cn_fail(r->ctx, s, "%s; the same command goes on from what was saved", why);
}

cn_status cn_pretrain(cn_ctx *ctx, const cn_pretrain_options *o)
{
    CN_TRY(check_options(ctx, o));
    cn_dir_lock *lock = NULL;
    cn_pretrain_run r = {.ctx = ctx, .o = o, .started_s = cn_now_s()};
    cn_status s = cn_format(ctx, r.state_dir, sizeof r.state_dir, "%s/state", o->output_dir);
    if (s == CN_OK) s = cn_dir_lock_take(ctx, o->output_dir, &lock);
    if (s == CN_OK) s = cn_dir_make(ctx, r.state_dir);
    if (s == CN_OK) s = cn_backend_create(ctx, o->device, &r.be);
    if (s == CN_OK && !(r.base = cn_alloc0(ctx, sizeof *r.base))) s = CN_ENOMEM;
    if (s != CN_OK) goto done;
    cn_pretrain_configs(o, r.base);
    if ((s = make_networks(&r)) != CN_OK) goto done;
    if (!o->stage || wants(o, "vae")) s = cn_pretrain_vae(&r);
    if (s == CN_OK && (!o->stage || wants(o, "unet"))) s = cn_pretrain_unet(&r);
    if (s == CN_OK && wants(o, "decoder")) s = cn_pretrain_decoder(&r);
    s = tell_saved(&r, s);
done:
    cn_params_destroy(r.unet);
    cn_params_destroy(r.vae);
    cn_params_destroy(r.text);
    cn_free(r.base);
    if (r.be) r.be->destroy(r.be);
    cn_dir_lock_drop(lock);
    return s;
}
