/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - `bench WORK [options]`: how long a work takes at the published models' sizes, on
 * seeded weights; `bench --help` lists works and options. One line of JSON per work: seconds of the
 * fastest and the middle run, GFLOP/s of the fastest, the bytes that were planned and the most that
 * were resident.
 */
#include "bench.h"
#include "cli/restart.h"
#include "device/device.h"
#include "diffuse/sampling.h"
#include "model/checkpoint/family.h"
#include "model/checkpoint/network_kinds.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void bench_types(const bench *b, cn_params *p)
{
    cn_params_set_compute(p, b->dtype);
    cn_params_set_storage(p, b->storage);
}

cn_status bench_fill(bench *b, cn_params *p)
{
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        float scale = 1 / sqrtf((float)CN_MAX(1, q->fan_in));
        float *plain = cn_alloc_array(b->ctx, (size_t)cn_param_elements(q), sizeof *plain);
        if (!plain) return CN_ENOMEM;
        cn_seed_tensor(q->ldm_name, q->init == CN_INIT_ONE ? 1 : 0, scale, plain,
                       cn_param_elements(q));
        const cn_status s = cn_param_set(b->backend, b->ctx, q, plain);
        cn_free(plain);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

cn_status bench_measure(bench *b, cn_status (*run)(void *user), void *user, bench_times *out)
{
    CN_TRY(run(user));
    out->n = b->runs;
    for (int i = 0; i < b->runs; i++) {
        double begun = cn_now_s();
        CN_TRY(run(user));
        out->seconds[i] = cn_now_s() - begun;
    }
    qsort(out->seconds, (size_t)out->n, sizeof *out->seconds, by_value);
    return CN_OK;
}

void bench_report(const bench *b, const char *work, const bench_times *t, const cn_plan_info *info)
{
    cn_backend_memory memory;
    b->backend->memory(b->backend, &memory);
    printf("{\"work\": \"%s\", \"model\": \"%s\", \"dtype\": \"%s\", \"weights\": \"%s\", "
           "\"gradient_checkpointing\": %s, \"use_8bit_adam\": %s, \"only_mid_control\": %s, "
           "\"px\": %lld, \"batch\": %lld, "
           "\"threads\": %d, "
           "\"seconds_min\": %.4f, \"seconds_median\": %.4f, \"gflops\": %.1f, "
           "\"planned_bytes\": %zu, \"peak_rss_bytes\": %lld, \"device\": \"%s\", "
           "\"peak_device_bytes\": %zu}\n",
           work, b->model, cn_weight_type_word(b->halves ? CN_F16 : b->dtype),
           cn_weight_type_word(b->storage), b->checkpointing ? "true" : "false",
           b->use_8bit_adam ? "true" : "false", b->only_mid ? "true" : "false", (long long)b->px,
           (long long)b->batch, cn_threads(b->ctx), t->seconds[0], t->seconds[t->n / 2],
           info->flops / t->seconds[0] / 1e9, info->arena_bytes,
           (long long)cn_peak_resident_bytes(), b->backend->name, memory.most);
    fflush(stdout);
}

/* --- draw ------------------------------------------------------------------------------------- */

typedef struct draw_work {
    cn_draw *draw;
    cn_draw_args args;
    float *x, *out;
} draw_work;

static cn_status draw_step(void *user)
{
    draw_work *w = user;
    return cn_draw_predict(w->draw, &w->args, 0, 1, 500, w->x, w->out);
}

static float *noise(bench *b, const char *key, int64_t n)
{
    float *x = cn_alloc_array(b->ctx, (size_t)n, sizeof *x);
    if (x) cn_seed_tensor(key, 0, 1, x, n);
    return x;
}

static cn_status draw_measure(bench *b, const cn_draw_spec *spec)
{
    draw_work w = {.args.cfg_scale = b->guidance ? 7.5 : 1};
    int64_t n = spec->batch * spec->unet->in_channels * spec->latent_h * spec->latent_w;
    float *context = noise(b, "context", spec->context_length * spec->unet->context_dim);
    float *added = noise(b, "added", CN_MAX(spec->unet->added_dim, 1));
    float *image = noise(b, "image", b->px * b->px * 3);
    w.x = noise(b, "x", n);
    w.out = noise(b, "out", n);
    w.args.cond = w.args.uncond = context;
    w.args.cond_added = w.args.uncond_added = added;
    w.args.hints[0] = (cn_draw_hint){.image = image, .strength = 1, .end = 1};
    bench_times times;
    cn_plan_info info;
    cn_status s = context && added && image && w.x && w.out ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_draw_create(b->ctx, b->backend, spec, &w.draw);
    if (s == CN_OK) s = bench_fill(b, spec->unet_params);
    if (s == CN_OK && spec->n_controls) s = bench_fill(b, spec->controls[0].params);
    if (s == CN_OK) s = cn_draw_begin(w.draw, &w.args);
    if (s == CN_OK) s = bench_measure(b, draw_step, &w, &times);
    if (s == CN_OK) {
        cn_draw_info(w.draw, &info);
        bench_report(b, spec->n_controls ? "draw" : "draw without control", &times, &info);
    }
    cn_draw_destroy(w.draw);
    cn_free(context);
    cn_free(added);
    cn_free(image);
    cn_free(w.x);
    cn_free(w.out);
    return s;
}

static cn_status bench_draw(bench *b)
{
    cn_params *unet = NULL, *control = NULL;
    cn_status s = cn_net_params(b->ctx, CN_NET_UNET, &unet);
    if (s == CN_OK) s = cn_net_params(b->ctx, CN_NET_CONTROL, &control);
    if (s == CN_OK) bench_types(b, unet);
    if (s == CN_OK) bench_types(b, control);
    cn_draw_spec spec = {
        .unet = &b->base.unet,
        .unet_params = unet,
        .controls = {{.kind = &cn_control_kind_net, .config = &b->control, .params = control}},
        .n_controls = b->no_control ? 0 : 1,
        .batch = b->batch,
        .latent_h = b->px / 8,
        .latent_w = b->px / 8,
        .context_length = 77,
        .guidance = b->guidance};
    if (s == CN_OK) s = draw_measure(b, &spec);
    cn_params_destroy(unet);
    cn_params_destroy(control);
    return s;
}

/* --- decode ----------------------------------------------------------------------------------- */

typedef struct decode_work {
    cn_decode *decode;
    float *latents;
    uint8_t *rgb;
} decode_work;

static cn_status decode_run(void *user)
{
    decode_work *w = user;
    return cn_decode_run(w->decode, w->latents, w->rgb);
}

static cn_status bench_decode(bench *b)
{
    cn_params *vae = NULL;
    int64_t side = b->px / 8;
    decode_work w = {.latents = noise(b, "latents", b->base.vae.latent_channels * side * side),
                     .rgb = cn_alloc_array(b->ctx, (size_t)(side * side) * 64, 3)};
    bench_times times;
    cn_plan_info info;
    cn_status s = w.latents && w.rgb ? cn_net_params(b->ctx, CN_NET_VAE, &vae) : CN_ENOMEM;
    if (s == CN_OK) bench_types(b, vae);
    cn_vae_spec spec = {.config = &b->base.vae, .params = vae, .latent_h = side, .latent_w = side};
    if (s == CN_OK) s = cn_decode_create(b->ctx, b->backend, &spec, &w.decode);
    if (s == CN_OK) s = bench_fill(b, vae);
    if (s == CN_OK) s = bench_measure(b, decode_run, &w, &times);
    if (s == CN_OK) {
        b->batch = 1;
        cn_decode_info(w.decode, &info);
        bench_report(b, "decode", &times, &info);
    }
    cn_decode_destroy(w.decode);
    cn_params_destroy(vae);
    cn_free(w.latents);
    cn_free(w.rgb);
    return s;
}

/* --- the program ------------------------------------------------------------------------------ */

static const struct {
    const char *name, *help;
    cn_status (*run)(bench *b);
    bool any_device; /* its work isn't in the host's memory */
} works[] = {
    {"draw", "one step of UNet and ControlNet", bench_draw, true},
    {"decode", "the VAE's decoder, one picture", bench_decode, true},
    {"train", "one training step of a ControlNet: forward, backward, AdamW", bench_train, true},
    {"finetune", "the same of the UNet itself, without a ControlNet", bench_finetune, true},
    {"ops", "each large operation of the first three", bench_ops, false},
    {"optimizer", "AdamW's passes over memory", bench_optimizer, false},
    {"annotators", "the annotators' networks, and Canny with --picture", bench_annotators, false},
    {"model", "none is timed: writes a base and a ControlNet of these sizes to --out", bench_model,
     false},
};

/* The published models' configurations, as their config.json have them where diffusers' own presets
 * differ, and the picture's side that they were trained on. */
static const struct {
    const char *name, *unet, *text[CN_MAX_TEXT_ENCODERS];
    int64_t px;
} models[] = {
    {"sd15",
     "{\"cross_attention_dim\": 768}",
     {"{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_attention_heads\": 12}"},
     512},
    {"sdxl",
     "{\"block_out_channels\": [320, 640, 1280],"
     " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],"
     " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
     " \"attention_head_dim\": [5, 10, 20], \"transformer_layers_per_block\": [1, 2, 10],"
     " \"cross_attention_dim\": 2048, \"use_linear_projection\": true,"
     " \"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256,"
     " \"projection_class_embeddings_input_dim\": 2816}",
     {"{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_attention_heads\": 12}",
      "{\"hidden_size\": 1280, \"intermediate_size\": 5120, \"num_attention_heads\": 20,"
      " \"num_hidden_layers\": 32, \"hidden_act\": \"gelu\", \"projection_dim\": 1280,"
      " \"architectures\": [\"CLIPTextModelWithProjection\"]}"},
     1024},
};

/* One of them through its reader. */
static cn_status read_text(bench *b, const char *text, cn_config_reader *read, void *out)
{
    json_t *json = NULL;
    CN_TRY(cn_json_load_memory(b->ctx, "configuration", text, strlen(text), &json));
    const cn_status s = read(b->ctx, json, out);
    json_decref(json);
    return s;
}

static cn_status read_control(cn_ctx *ctx, const json_t *json, void *out)
{
    return cn_controlnet_config_read(ctx, json, out);
}

/* UNet's and ControlNet's widths are scaled to `channels` at the first level. */
static cn_status configure(bench *b, int model, int64_t channels)
{
    static const char vae[] =
        "{\"block_out_channels\": [128, 256, 512, 512], \"layers_per_block\": 2}";
    const int64_t of = 320;
    cn_base *base = &b->base;
    b->model = models[model].name;
    if (!b->px) b->px = models[model].px;
    CN_TRY(read_text(b, models[model].unet, cn_net_kind_of(CN_NET_UNET)->read, &base->unet));
    CN_TRY(read_text(b, models[model].unet, read_control, &b->control));
    CN_TRY(read_text(b, vae, cn_net_kind_of(CN_NET_VAE)->read, &base->vae));
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && models[model].text[k]; k++)
        CN_TRY(read_text(b, models[model].text[k], cn_net_kind_of(cn_net_text(k))->read,
                         &base->text[k]));
    cn_schedule_config_default(&base->schedule);
    cn_family_settle(base, false);
    for (int i = 0; i < base->unet.levels; i++) {
        int64_t *const C = &base->unet.channels[i];
        int *const heads = &base->unet.heads[i];
        *C = *C / of * channels;
        while (*C % *heads) --*heads;
        b->control.encoder.channels[i] = *C;
        b->control.encoder.heads[i] = *heads;
    }
    return CN_OK;
}

static void print_log(void *user, cn_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

enum {
    MODEL = 1,
    PX,
    BATCH,
    RUNS,
    DTYPE,
    WEIGHTS,
    THREADS,
    DEVICE,
    CHANNELS,
    GUIDANCE,
    NO_CONTROL,
    CHECKPOINTING,
    ADAM8,
    ONLY_MID,
    TABLE,
    ONLY,
    PICTURE,
    OUT,
    HELP
};

static const struct {
    const char *name, *arg, *help;
} options[] = {
    [MODEL] = {"model", "NAME", "sd15 (default) or sdxl"},
    [PX] = {"px", "PX", "side of the picture, a multiple of 64 (512; SDXL 1024)"},
    [BATCH] = {"batch", "N", "pictures at once (1)"},
    [RUNS] = {"runs", "N", "how often, behind one that isn't counted (3)"},
    [DTYPE] = {"dtype", "TYPE", "what is computed in: f32 (default), bf16, or f16 on a device"},
    [WEIGHTS] = {"weights", "TYPE",
                 "how locked weights are kept: f32, f16, bf16 or q8 (as --dtype)"},
    [THREADS] = {"threads", "N", "worker threads (one per core)"},
    [DEVICE] = {"device", "DEVICE",
                "draw, decode, train, finetune: cpu (default), vulkan, vulkan:N"},
    [CHANNELS] = {"channels", "C", "width of the first level (320); 32 for a quick try"},
    [GUIDANCE] = {"guidance", NULL, "draw: both halves"},
    [NO_CONTROL] = {"no-control", NULL, "draw: the UNet alone"},
    [CHECKPOINTING] = {"gradient-checkpointing", NULL,
                       "train, finetune: every block is computed again"},
    [ADAM8] = {"use-8bit-adam", NULL, "train, finetune: moments in a byte each"},
    [ONLY_MID] = {"only-mid-control", NULL, "train: the middle block's link alone"},
    [TABLE] = {"table", NULL, "ops: a table instead of JSON lines (always on a terminal)"},
    [ONLY] = {"only", "NAME", "annotators: this network alone; ops: rows with this text"},
    [PICTURE] = {"picture", "IMG", "annotators: what Canny looks at"},
    [OUT] = {"out", "DIR", "model: the folder that gets base/ and control/"},
    [HELP] = {"help", NULL, "this"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static int usage(FILE *f)
{
    fputs("usage: bench WORK [options]\n\nStable Diffusion's sizes, seeded weights, no file "
          "needed.\nPrints JSON lines: seconds, GFLOP/s, bytes planned and resident.\n\n",
          f);
    for (size_t i = 0; i < CN_COUNT(works); i++)
        fprintf(f, "  %-10s %s\n", works[i].name, works[i].help);
    fputc('\n', f);
    for (int i = 1; i < N_OPTIONS; i++) {
        char name[64];
        snprintf(name, sizeof name, "--%s %s", options[i].name,
                 options[i].arg ? options[i].arg : "");
        fprintf(f, "  %-25s %s\n", name, options[i].help);
    }
    return f == stdout ? 0 : 2;
}

typedef struct request {
    bench b;
    int64_t channels;
    int model, threads;
    bool own_storage;
    const char *device;
} request;

static bool next_pass_number(int o, int64_t v, request *r)
{
    bench *b = &r->b;
    if (v < 1 || v > 16384) return false;
    switch (o) {
    case PX: b->px = v / 64 * 64; return b->px > 0;
    case BATCH: b->batch = v; return true;
    case RUNS: b->runs = (int)CN_MIN(v, BENCH_MAX_RUNS); return true;
    case THREADS: r->threads = (int)v; return true;
    default: r->channels = v; return true;
    }
}

static bool find_model(const char *name, int *out)
{
    for (size_t i = 0; i < CN_COUNT(models); i++) {
        if (strcmp(models[i].name, name) != 0) continue;
        *out = (int)i;
        return true;
    }
    return false;
}

/* One option; false: its value is wrong. */
static bool take(int o, const char *value, request *r)
{
    bench *b = &r->b;
    switch (o) {
    case MODEL: return find_model(value, &r->model);
    case DTYPE: return cn_weight_type_find(value, &b->dtype);
    case DEVICE: r->device = value; return true;
    case WEIGHTS: r->own_storage = true; return cn_storage_type_find(value, &b->storage);
    case GUIDANCE: b->guidance = true; return true;
    case NO_CONTROL: b->no_control = true; return true;
    case CHECKPOINTING: b->checkpointing = true; return true;
    case ADAM8: b->use_8bit_adam = true; return true;
    case ONLY_MID: b->only_mid = true; return true;
    case TABLE: b->table = true; return true;
    case ONLY: b->only = value; return true;
    case PICTURE: b->picture = value; return true;
    case OUT: b->out = value; return true;
    default: return next_pass_number(o, strtoll(value, NULL, 10), r);
    }
}

/* Products of F16 are the backend's; networks are of F32 then. */
static cn_status open_backend(request *r, bool any_device)
{
    bench *b = &r->b;
    CN_TRY(cn_backend_create(b->ctx, r->device, &b->backend));
    if (!any_device && !b->backend->addressable)
        return cn_fail(b->ctx, CN_EINVAL, "--device: draw, decode and train alone run on %s",
                       r->device);
    if (b->dtype != CN_F16) return CN_OK;
    b->dtype = CN_F32;
    b->halves = true;
    if (b->backend->multiply_in(b->backend, CN_F16)) return CN_OK;
    return cn_fail(b->ctx, CN_EINVAL, "--dtype f16: on a --device alone");
}

static int run(request *r, cn_status (*work)(bench *b), bool any_device)
{
    bench *b = &r->b;
    if (!(b->ctx = cn_ctx_create(r->threads))) return 1;
    cn_ctx_set_log(b->ctx, print_log, NULL);
    cn_status s = open_backend(r, any_device);
    if (s == CN_OK) s = configure(b, r->model, r->channels);
    if (s == CN_OK) s = work(b);
    if (s != CN_OK) fprintf(stderr, "bench: %s\n", cn_error(b->ctx));
    if (b->backend) b->backend->destroy(b->backend);
    cn_ctx_destroy(b->ctx);
    return s == CN_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct option longs[N_OPTIONS] = {{0}};
    request r = {.b = {.batch = 1, .runs = 3}, .channels = 320};
    int o;
    cli_restart_with_short_spinning(argv);
    for (int i = 1; i < N_OPTIONS; i++)
        longs[i - 1] = (struct option){options[i].name,
                                       options[i].arg ? required_argument : no_argument, NULL, i};
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == HELP) return usage(stdout);
        if (o == '?' || !take(o, optarg, &r)) return usage(stderr);
    }
    if (!r.own_storage) r.b.storage = r.b.dtype;
    for (size_t i = 0; optind < argc && i < CN_COUNT(works); i++)
        if (strcmp(works[i].name, argv[optind]) == 0)
            return run(&r, works[i].run, works[i].any_device);
    return usage(stderr);
}
