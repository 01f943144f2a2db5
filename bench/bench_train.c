/* bench_train.c - seconds and GFLOP/s of a training step: forward, backward, AdamW. */
#include "bench_train.h"

#include "base/log.h"
#include "cpu/cpu.h"
#include "model/weights.h"
#include "train/optimizer.h"
#include "train/stepgraph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct bench {
    cn_ctx *ctx;
    cn_backend *be;
    cn_params *unet, *control;
    cn_stepgraph *step;
    cn_adamw *adamw;
    const float **grads;
    double *seconds;
} bench;

static void configure(bool small, cn_unet_config *u, cn_controlnet_config *c)
{
    *u = (cn_unet_config){.in_channels = 4,
                          .out_channels = 4,
                          .levels = 4,
                          .channels = {320, 640, 1280, 1280},
                          .attention = {true, true, true, false},
                          .heads = {8, 8, 8, 8},
                          .layers_per_block = 2,
                          .context_dim = 768,
                          .norm_groups = 32,
                          .sample_size = 64};
    if (small) {
        for (int i = 0; i < u->levels; i++) u->channels[i] = 32;
        u->context_dim = 64;
    }
    *c = (cn_controlnet_config){.encoder = *u,
                                .condition_channels = 3,
                                .hint_levels = 4,
                                .hint_channels = {16, 32, 96, 256}};
}

/* The optimizer over every parameter with a gradient, whose gradients are moved to the front. */
static cn_status optimizer(bench *b)
{
    const int64_t count = cn_params_count(b->control);
    cn_adamw_options o;
    cn_param **list = cn_alloc_array(b->ctx, (size_t)count, sizeof(cn_param *));
    b->grads = cn_alloc_array(b->ctx, (size_t)count, sizeof(const float *));
    if (!list || !b->grads) {
        cn_free(list);
        return CN_ENOMEM;
    }
    int64_t n = 0;
    cn_stepgraph_gradients(b->step, b->control, b->grads);
    for (int64_t i = 0; i < count; i++) {
        if (!b->grads[i]) continue;
        b->grads[n] = b->grads[i];
        list[n++] = cn_params_at(b->control, i);
    }
    cn_adamw_options_default(&o);
    const cn_status s = cn_adamw_create(b->ctx, b->be, list, n, &o, &b->adamw);
    cn_free(list);
    return s;
}

static cn_status fill_input(bench *b, const cn_node *x, const char *key, float offset, float scale)
{
    float *to = cn_plan_data(b->step->plan, x);
    if (to) cn_seed_tensor(key, offset, scale, to, cn_node_elements(x));
    return CN_OK;
}

static cn_status set_up(bench *b, const bench_train_options *o)
{
    cn_unet_config u;
    cn_controlnet_config c;
    configure(o->small, &u, &c);
    CN_TRY(cn_backend_cpu_create(b->ctx, &b->be));
    CN_TRY(cn_params_create(b->ctx, "unet", &b->unet));
    CN_TRY(cn_params_create(b->ctx, "controlnet", &b->control));
    cn_params_set_trainable(b->control, true);
    const cn_stepgraph_options s = {.batch = o->batch,
                                    .width = o->px,
                                    .height = o->px,
                                    .latent_w = o->px / 8,
                                    .latent_h = o->px / 8,
                                    .tokens = 77,
                                    .control = true,
                                    .gradients = true};
    CN_TRY(cn_stepgraph_create(b->ctx, b->be, &u, &c, b->unet, b->control, &s, &b->step));
    CN_TRY(cn_params_init(b->ctx, b->be, b->unet, 1));
    CN_TRY(cn_control_init_from_unet(b->ctx, b->be, b->unet, b->control, 1));
    CN_TRY(optimizer(b));
    CN_TRY(fill_input(b, b->step->x, "noisy", 0, 1));
    CN_TRY(fill_input(b, b->step->t, "t", 500, 0));
    CN_TRY(fill_input(b, b->step->context, "context", 0, 1));
    CN_TRY(fill_input(b, b->step->condition, "condition", 0.5f, 0.5f));
    return fill_input(b, b->step->target, "target", 0, 1);
}

static cn_status time_steps(bench *b, int runs)
{
    for (int i = -1; i < runs; i++) { /* the first one touches the memory */
        const double start = cn_now_s();
        CN_TRY(cn_plan_run(b->step->plan));
        CN_TRY(cn_adamw_run(b->adamw, b->grads, 1e-5, 1, NULL));
        if (i >= 0) b->seconds[i] = cn_now_s() - start;
    }
    return CN_OK;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print(const bench *b, const bench_train_options *o)
{
    cn_plan_info info;
    struct rusage usage;
    cn_plan_info_get(b->step->plan, &info);
    getrusage(RUSAGE_SELF, &usage);
    qsort(b->seconds, (size_t)o->runs, sizeof(double), by_value);
    printf("{\"work\": \"train\", \"dtype\": \"f32\", \"px\": %lld, \"batch\": %lld, "
           "\"threads\": %d, \"seconds_min\": %.4f, \"seconds_median\": %.4f, \"gflops\": %.1f, "
           "\"arena_bytes\": %zu, \"peak_rss_bytes\": %lld}\n",
           (long long)o->px, (long long)o->batch, cn_threads(b->ctx), b->seconds[0],
           b->seconds[o->runs / 2], info.flops / b->seconds[0] / 1e9, info.arena_bytes,
           (long long)usage.ru_maxrss * 1024);
    fflush(stdout);
    if (!cn_debug_get().profile) return;
    cn_str text = {0};
    cn_plan_profile(b->step->plan, &text);
    if (text.data) fputs(text.data, stderr);
    cn_str_free(&text);
}

int bench_train(const bench_train_options *options)
{
    bench b = {.ctx = cn_ctx_create(options->threads)};
    cn_status s = CN_ENOMEM;
    if (options->runs < 1 || options->batch < 1 || options->px < 64 || options->px % 64) {
        fprintf(stderr, "bench train: px is a multiple of 64, batch and runs are at least 1\n");
        cn_ctx_destroy(b.ctx);
        return 2;
    }
    b.seconds = cn_alloc_array(b.ctx, (size_t)options->runs, sizeof(double));
    if (b.ctx && b.seconds) s = set_up(&b, options);
    if (s == CN_OK) s = time_steps(&b, options->runs);
    if (s == CN_OK)
        print(&b, options);
    else
        fprintf(stderr, "bench train: %s\n", cn_error(b.ctx));
    cn_adamw_destroy(b.adamw);
    cn_stepgraph_destroy(b.step);
    cn_params_destroy(b.unet);
    cn_params_destroy(b.control);
    if (b.be) b.be->destroy(b.be);
    cn_free(b.grads);
    cn_free(b.seconds);
    cn_ctx_destroy(b.ctx);
    return s == CN_OK ? 0 : 1;
}
