/* bench.c - `bench WORK [options]`: how long a work takes at SD 1.5's real sizes, on seeded weights.
 *
 *   draw     one step of UNet and ControlNet; --guidance runs both halves, --no-control the UNet alone
 *   decode   the VAE's decoder, one picture
 *   train    one training step of a ControlNet (bench_train.c): forward, backward, clipping, AdamW
 *   ops      each large operation of the three (bench_ops.c), as a table on a terminal or with --table
 *   optimizer  the passes of AdamW over memory (bench_optimizer.c)
 *   annotators  the annotators' networks, and Canny with --picture (bench_annotators.c)
 *
 * --px PX (512)  --batch N (1)  --runs N (3)  --dtype f32|bf16  --threads N (one per core)  --channels C (320:
 * the width of the first level; 32 makes a small network to try the program with)  --weights f32|f16|bf16
 * (how locked weights are kept; as --dtype)  --gradient-checkpointing (train: every block)
 * --use-8bit-adam (train)  --only NAME and --picture IMG (annotators).
 * One line of JSON per work: seconds of the fastest and the middle run, GFLOP/s of the fastest, the bytes
 * that were planned and the most that were resident.
 */
#include "bench.h"
#include "cli/restart.h"
#include "cpu/cpu.h"
#include "diffuse/draw.h"
#include "model/config_io.h"

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
    printf("{\"work\": \"%s\", \"dtype\": \"%s\", \"weights\": \"%s\", "
           "\"gradient_checkpointing\": %s, \"use_8bit_adam\": %s, \"px\": %lld, \"batch\": %lld, "
           "\"threads\": %d, "
           "\"seconds_min\": %.4f, \"seconds_median\": %.4f, \"gflops\": %.1f, "
           "\"planned_bytes\": %zu, \"peak_rss_bytes\": %lld}\n",
           work, cn_weight_type_word(b->dtype), cn_weight_type_word(b->storage),
           b->checkpointing ? "true" : "false", b->use_8bit_adam ? "true" : "false",
           (long long)b->px, (long long)b->batch, cn_threads(b->ctx), t->seconds[0],
           t->seconds[t->n / 2], info->flops / t->seconds[0] / 1e9, info->arena_bytes,
           (long long)cn_peak_resident_bytes());
    fflush(stdout);
}

/* --- draw ------------------------------------------------------------------------------------------- */

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
    float *image = noise(b, "image", b->px * b->px * 3);
    w.x = noise(b, "x", n);
    w.out = noise(b, "out", n);
    w.args.cond = w.args.uncond = context;
    w.args.hints[0] = (cn_draw_hint){.image = image, .strength = 1, .end = 1};
    bench_times times;
    cn_plan_info info;
    cn_status s = context && image && w.x && w.out ? CN_OK : CN_ENOMEM;
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
    cn_free(image);
    cn_free(w.x);
    cn_free(w.out);
    return s;
}

static cn_status bench_draw(bench *b)
{
    cn_params *unet = NULL, *control = NULL;
    cn_status s = cn_params_create(b->ctx, "unet", &unet);
    if (s == CN_OK) s = cn_params_create(b->ctx, "controlnet", &control);
    if (s == CN_OK) bench_types(b, unet);
    if (s == CN_OK) bench_types(b, control);
    cn_draw_spec spec = {.unet = &b->unet,
                         .unet_params = unet,
                         .controls = {{.config = &b->control, .params = control}},
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

/* --- decode ----------------------------------------------------------------------------------------- */

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
    decode_work w = {.latents = noise(b, "latents", b->vae.latent_channels * side * side),
                     .rgb = cn_alloc_array(b->ctx, (size_t)(side * side) * 64, 3)};
    bench_times times;
    cn_plan_info info;
    cn_status s = w.latents && w.rgb ? cn_params_create(b->ctx, "vae", &vae) : CN_ENOMEM;
    if (s == CN_OK) bench_types(b, vae);
    cn_vae_spec spec = {.config = &b->vae, .params = vae, .latent_h = side, .latent_w = side};
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

/* --- the program ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    cn_status (*run)(bench *b);
} works[] = {
    {"draw", bench_draw}, {"decode", bench_decode},       {"train", bench_train},
    {"ops", bench_ops},   {"optimizer", bench_optimizer}, {"annotators", bench_annotators},
};

/* SD 1.5's networks, the UNet's and ControlNet's widths scaled to `channels` at the first level. */
static cn_status configure(bench *b, int64_t channels)
{
    static const char widths[] = "{\"block_out_channels\": [128, 256, 512, 512]}";
    json_t *empty = json_object(), *vae = NULL;
    cn_status s = cn_unet_config_read(b->ctx, empty, &b->unet);
    if (s == CN_OK) s = cn_controlnet_config_read(b->ctx, empty, &b->control);
    if (s == CN_OK) s = cn_json_load_memory(b->ctx, "vae", widths, sizeof widths - 1, &vae);
    if (s == CN_OK) s = cn_vae_config_read(b->ctx, vae, &b->vae);
    json_decref(empty);
    json_decref(vae);
    for (int i = 0; s == CN_OK && i < b->unet.levels; i++) {
        b->unet.channels[i] = b->unet.channels[i] / 320 * channels;
        b->control.encoder.channels[i] = b->control.encoder.channels[i] / 320 * channels;
    }
    b->unet.context_dim = b->control.encoder.context_dim = 768;
    return s;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: bench WORK [--px PX] [--batch N] [--runs N] [--dtype f32|bf16] [--threads N] "
            "[--channels C] [--guidance] [--no-control] [--weights f32|f16|bf16] "
            "[--gradient-checkpointing] [--use-8bit-adam] [--table] [--only NAME] "
            "[--picture IMG]\nworks:");
    for (size_t i = 0; i < CN_COUNT(works); i++) fprintf(stderr, " %s", works[i].name);
    fputc('\n', stderr);
    return 2;
}

static void print_log(void *user, cn_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
    enum {
        PX = 1,
        BATCH,
        RUNS,
        DTYPE,
        THREADS,
        CHANNELS,
        NO_CONTROL,
        GUIDANCE,
        WEIGHTS,
        CHECKPOINTING,
        ADAM8,
        TABLE,
        ONLY,
        PICTURE
    };
    static const struct option longs[] = {
        {"px", required_argument, NULL, PX},
        {"batch", required_argument, NULL, BATCH},
        {"runs", required_argument, NULL, RUNS},
        {"dtype", required_argument, NULL, DTYPE},
        {"threads", required_argument, NULL, THREADS},
        {"channels", required_argument, NULL, CHANNELS},
        {"no-control", no_argument, NULL, NO_CONTROL},
        {"guidance", no_argument, NULL, GUIDANCE},
        {"weights", required_argument, NULL, WEIGHTS},
        {"gradient-checkpointing", no_argument, NULL, CHECKPOINTING},
        {"use-8bit-adam", no_argument, NULL, ADAM8},
        {"table", no_argument, NULL, TABLE},
        {"only", required_argument, NULL, ONLY},
        {"picture", required_argument, NULL, PICTURE},
        {0}};
    cli_restart_with_short_spinning(argv);
    bench b = {.px = 512, .batch = 1, .runs = 3};
    int64_t channels = 320;
    bool own_storage = false;
    int threads = 0, o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == '?') return usage();
        if (o == DTYPE) {
            if (!cn_weight_type_find(optarg, &b.dtype) || b.dtype == CN_F16) return usage();
            continue;
        }
        if (o == WEIGHTS) {
            if (!cn_weight_type_find(optarg, &b.storage)) return usage();
            own_storage = true;
            continue;
        }
        if (o == ONLY || o == PICTURE) {
            *(o == ONLY ? &b.only : &b.picture) = optarg;
            continue;
        }
        int64_t v = optarg ? strtoll(optarg, NULL, 10) : 1;
        if (v < 1 || v > 16384) return usage();
        if (o == PX) b.px = v / 64 * 64;
        if (o == BATCH) b.batch = v;
        if (o == RUNS) b.runs = (int)CN_MIN(v, BENCH_MAX_RUNS);
        if (o == THREADS) threads = (int)v;
        if (o == CHANNELS) channels = v;
        if (o == NO_CONTROL) b.no_control = true;
        if (o == GUIDANCE) b.guidance = true;
        if (o == CHECKPOINTING) b.checkpointing = true;
        if (o == ADAM8) b.use_8bit_adam = true;
        if (o == TABLE) b.table = true;
    }
    if (!own_storage) b.storage = b.dtype;
    size_t work = 0;
    while (work < CN_COUNT(works) &&
           (optind >= argc || strcmp(works[work].name, argv[optind]) != 0))
        work++;
    if (work == CN_COUNT(works) || !b.px || !(b.ctx = cn_ctx_create(threads))) return usage();
    cn_ctx_set_log(b.ctx, print_log, NULL);
    cn_status s = cn_backend_cpu_create(b.ctx, &b.backend);
    if (s == CN_OK) s = configure(&b, channels);
    if (s == CN_OK) s = works[work].run(&b);
    if (s != CN_OK) fprintf(stderr, "bench: %s\n", cn_error(b.ctx));
    if (b.backend) b.backend->destroy(b.backend);
    cn_ctx_destroy(b.ctx);
    return s == CN_OK ? 0 : 1;
}
