/* SPDX-License-Identifier: Apache-2.0 */
/* test_optimizer.c - AdamW against its formula in double, clipping, accumulation, state;
 * schedules; Muon. */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "data/batch.h"
#include "train/loss_scale.h"
#include "train/lr.h"
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 37 };

static cn_backend *be;

static int set_up(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    return ctx && cn_backend_cpu_create(ctx, &be) == CN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    be->destroy(be);
    cn_ctx_destroy(ctx);
    return 0;
}

/* Two parameters of N values each; the second has no gradient. */
typedef struct net {
    cn_param q[2];
    float w[2][N], g[N];
    cn_adamw *adamw;
} net;

static void net_open(net *n)
{
    *n = (net){0};
    cn_param *list[2] = {&n->q[0], &n->q[1]};
    for (int i = 0; i < 2; i++) {
        n->q[i] = (cn_param){.ndim = 1, .shape = {N}, .loaded = true, .data = n->w[i]};
        n->q[i].data_bytes = sizeof n->w[i];
    }
    n->q[0].diffusers_name = n->q[0].ldm_name = "one.w";
    n->q[1].diffusers_name = n->q[1].ldm_name = "two.w";
    n->q[0].network = n->q[1].network = "net";
    cn_seed_tensor("weights", 0, 1, n->w[0], N);
    cn_seed_tensor("weights", 0, 1, n->w[1], N);
    cn_adamw_options o;
    cn_adamw_options_default(&o);
    must(cn_adamw_create(ctx, be, list, 2, &o, &n->adamw));
}

static void step(net *n, int k, double lr, double clip, double *norm)
{
    char key[16];
    snprintf(key, sizeof key, "g%d", k);
    cn_seed_tensor(key, 0.1f, 1, n->g, N);
    const float *grads[2] = {n->g, NULL};
    must(cn_adamw_run(n->adamw, grads, lr, clip, norm));
}

static void steps_follow_the_formula(void **state)
{
    (void)state;
    net n;
    double w[N], m[N] = {0}, v[N] = {0}, norm = 0;
    net_open(&n);
    for (int i = 0; i < N; i++) w[i] = (double)n.w[0][i];
    for (int k = 1; k <= 5; k++) {
        step(&n, k, 1e-2, 1, &norm);
        double squares = 0;
        for (int i = 0; i < N; i++) squares += (double)n.g[i] * (double)n.g[i];
        assert_true(fabs(norm - sqrt(squares)) < 1e-5);
        for (int i = 0; i < N; i++) {
            const double g = (double)n.g[i] / (sqrt(squares) + 1e-6); /* the norm is above 1 */
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            w[i] *= 1 - 1e-2 * 1e-2;
            w[i] -= 1e-2 * (m[i] / (1 - pow(0.9, k))) / (sqrt(v[i] / (1 - pow(0.999, k))) + 1e-8);
            /* float32 states: a few units in the last place per step */
            assert_true(fabs(w[i] - (double)n.w[0][i]) < 1e-5);
        }
    }
    float untouched[N];
    cn_seed_tensor("weights", 0, 1, untouched, N);
    assert_memory_equal(untouched, n.w[1], sizeof untouched);
    assert_int_equal(cn_adamw_steps(n.adamw), 5);
    cn_adamw_destroy(n.adamw);
}

static void accumulated_gradients_are_a_mean(void **state)
{
    (void)state;
    net a, b;
    float g1[N], g2[N], sum[N];
    double norm_a = 0, norm_b = 0;
    net_open(&a);
    net_open(&b);
    cn_seed_tensor("first", 0, 1, g1, N);
    cn_seed_tensor("second", 0, 1, g2, N);
    for (int i = 0; i < N; i++) sum[i] = (g1[i] + g2[i]) * 0.5f;
    for (int k = 0; k < 3; k++) {
        must(cn_adamw_accumulate(a.adamw, (const float *[]){g1, NULL}));
        must(cn_adamw_run(a.adamw, (const float *[]){g2, NULL}, 1e-2, 0, &norm_a));
        must(cn_adamw_run(b.adamw, (const float *[]){sum, NULL}, 1e-2, 0, &norm_b));
        assert_true(fabs(norm_a - norm_b) < 1e-6);
    }
    for (int i = 0; i < N; i++) assert_true(fabsf(a.w[0][i] - b.w[0][i]) < 1e-6f);
    cn_adamw_destroy(a.adamw);
    cn_adamw_destroy(b.adamw);
}

static void an_infinite_gradient_changes_nothing(void **state)
{
    (void)state;
    net n;
    float before[N];
    net_open(&n);
    memcpy(before, n.w[0], sizeof before);
    n.g[3] = INFINITY;
    assert_int_equal(cn_adamw_run(n.adamw, (const float *[]){n.g, NULL}, 1e-2, 1, NULL), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "diverged"));
    assert_memory_equal(before, n.w[0], sizeof before);
    assert_int_equal(cn_adamw_steps(n.adamw), 0);
    cn_adamw_destroy(n.adamw);
}

/* A scaled loss's gradients step as its own; behind an infinite one the run goes on as if it hadn't
 * been. */
static void a_loss_scale_changes_nothing(void **state)
{
    (void)state;
    net a, b;
    float half[N];
    double norm_a = 0, norm_b = 0;
    net_open(&a);
    net_open(&b);
    for (int k = 0; k < 3; k++) {
        char key[16];
        snprintf(key, sizeof key, "g%d", k);
        cn_seed_tensor(key, 0, 1, a.g, N);
        for (int i = 0; i < N; i++) b.g[i] = a.g[i] * 1024;
        for (int i = 0; i < N; i++) half[i] = k == 1 ? INFINITY : b.g[i];
        cn_adamw_set_loss_scale(b.adamw, 1024);
        must(cn_adamw_accumulate(b.adamw, (const float *[]){half, NULL}));
        if (k == 1) {
            assert_int_equal(cn_adamw_run(b.adamw, (const float *[]){b.g, NULL}, 1e-2, 1, &norm_b),
                             CN_EINVAL);
            cn_adamw_skip(b.adamw);
            continue;
        }
        must(cn_adamw_run(b.adamw, (const float *[]){b.g, NULL}, 1e-2, 1, &norm_b));
        must(cn_adamw_run(a.adamw, (const float *[]){a.g, NULL}, 1e-2, 1, &norm_a));
        assert_true(norm_a == norm_b);
    }
    assert_int_equal(cn_adamw_steps(b.adamw), 2);
    assert_int_equal(cn_adamw_passes(b.adamw), 0);
    assert_memory_equal(a.w, b.w, sizeof a.w);
    cn_adamw_destroy(a.adamw);
    cn_adamw_destroy(b.adamw);
}

/* torch.amp.GradScaler: init_scale 65536, growth 2 after 2000, backoff 0.5. */
static void the_loss_scale_is_gradscalers(void **state)
{
    (void)state;
    cn_loss_scale s = {0};
    cn_loss_scale_begin(&s);
    assert_true(s.value == 65536);
    for (int i = 0; i < 1999; i++) assert_true(cn_loss_scale_follow(&s, false));
    assert_true(s.value == 65536);
    assert_true(cn_loss_scale_follow(&s, false) && s.value == 131072);
    assert_true(cn_loss_scale_follow(&s, true) && s.value == 65536 && s.skipped == 1);
    for (int i = 0; i < 1999; i++) assert_true(cn_loss_scale_follow(&s, false));
    assert_true(cn_loss_scale_follow(&s, true) && s.value == 32768); /* one short of 2000 */
    for (int i = 0; i < 2000; i++) assert_true(cn_loss_scale_follow(&s, false));
    assert_true(s.value == 65536 && s.skipped == 2);
    int falls = 0;
    while (cn_loss_scale_follow(&s, true)) falls++;
    assert_in_range(falls, 30, 60);
    cn_loss_scale_begin(&s);
    assert_true(s.value < 1);
}

static void state_survives_a_file(void **state)
{
    (void)state;
    net a, b;
    char dir[64], path[128];
    net_open(&a);
    net_open(&b);
    for (int k = 1; k <= 3; k++) step(&a, k, 1e-2, 1, NULL);
    assert_true(tiny_dir_make(dir));
    snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
    must(cn_adamw_save(a.adamw, path));
    memcpy(b.w, a.w, sizeof b.w);
    must(cn_adamw_load(b.adamw, path));
    assert_int_equal(cn_adamw_steps(b.adamw), 3);
    step(&a, 4, 1e-2, 1, NULL);
    step(&b, 4, 1e-2, 1, NULL);
    assert_memory_equal(a.w, b.w, sizeof a.w);
    must(cn_file_write(ctx, path, "rubbish", 7));
    assert_int_not_equal(cn_adamw_load(b.adamw, path), CN_OK);
    tiny_dir_remove(dir);
    cn_adamw_destroy(a.adamw);
    cn_adamw_destroy(b.adamw);
}

/* --- Muon ------------------------------------------------------------------------------------- */

enum { MATRIX = 45 * 8 * 9, BIAS = 45 };

/* X <- aX + (bA + cA^2)X with A = X X^T, five times, from x / |x|: rows before columns. */
static void newton_schulz(double *x, int rows, int columns)
{
    const int m = rows < columns ? rows : columns, n = rows < columns ? columns : rows;
    double *t = malloc(sizeof(double) * (size_t)(2 * m * n + 3 * m * m));
    double *y = t + m * n, *a = y + m * n, *aa = a + m * m, *p = aa + m * m, squares = 0;
    for (int i = 0; i < m * n; i++) squares += x[i] * x[i];
    for (int i = 0; i < m; i++)
        for (int k = 0; k < n; k++)
            t[i * n + k] = (rows <= columns ? x[i * n + k] : x[k * m + i]) / sqrt(squares);
    for (int step = 0; step < 5; step++) {
        for (int i = 0; i < m; i++)
            for (int j = 0; j < m; j++) {
                a[i * m + j] = 0;
                for (int k = 0; k < n; k++) a[i * m + j] += t[i * n + k] * t[j * n + k];
            }
        for (int i = 0; i < m; i++)
            for (int j = 0; j < m; j++) {
                aa[i * m + j] = 0;
                for (int k = 0; k < m; k++) aa[i * m + j] += a[i * m + k] * a[k * m + j];
                p[i * m + j] = -4.7750 * a[i * m + j] + 2.0315 * aa[i * m + j];
            }
        for (int i = 0; i < m; i++)
            for (int k = 0; k < n; k++) {
                y[i * n + k] = 3.4445 * t[i * n + k];
                for (int j = 0; j < m; j++) y[i * n + k] += p[i * m + j] * t[j * n + k];
            }
        memcpy(t, y, sizeof(double) * (size_t)(m * n));
    }
    for (int i = 0; i < m; i++)
        for (int k = 0; k < n; k++) x[rows <= columns ? i * n + k : k * m + i] = t[i * n + k];
    free(t);
}

/* A weight of a convolution and its bias. */
typedef struct muon_net {
    cn_param q[2];
    float w[MATRIX], b[BIAS], g[MATRIX];
    cn_adamw *adamw;
} muon_net;

static void muon_open(muon_net *n, int rows)
{
    *n = (muon_net){0};
    const int columns = MATRIX / rows / 9;
    cn_param *list[2] = {&n->q[0], &n->q[1]};
    n->q[0] = (cn_param){.ndim = 4, .shape = {rows, columns, 3, 3}, .data_bytes = sizeof n->w};
    n->q[1] = (cn_param){.ndim = 1, .shape = {BIAS}, .data_bytes = sizeof n->b};
    n->q[0].data = n->w;
    n->q[1].data = n->b;
    n->q[0].diffusers_name = n->q[0].ldm_name = "conv.weight";
    n->q[1].diffusers_name = n->q[1].ldm_name = "conv.bias";
    n->q[0].network = n->q[1].network = "net";
    n->q[0].loaded = n->q[1].loaded = true;
    cn_seed_tensor("weights", 0, 1, n->w, MATRIX);
    cn_seed_tensor("bias", 0, 1, n->b, BIAS);
    cn_adamw_options o;
    cn_adamw_options_default(&o);
    o.muon = true;
    o.weight_decay = 0.1f;
    must(cn_adamw_create(ctx, be, list, 2, &o, &n->adamw));
    assert_int_equal(cn_adamw_bytes(list, 2, &o), sizeof n->w + 2 * sizeof n->b);
}

static void muon_step(muon_net *n, int k)
{
    char key[16];
    snprintf(key, sizeof key, "g%d", k);
    cn_seed_tensor(key, 0.02f, 0.1f, n->g, MATRIX);
    must(cn_adamw_run(n->adamw, (const float *[]){n->g, n->g}, 1e-2, 0.5, NULL));
}

static void matrices_follow_muon(void **state)
{
    (void)state;
    static const int sides[] = {1, 5, 40, 120, 360}; /* broad, then tall */
    for (size_t s = 0; s < CN_COUNT(sides); s++) {
        const int rows = sides[s];
        static muon_net n;
        static double w[MATRIX], m[MATRIX], x[MATRIX];
        muon_open(&n, rows);
        const int columns = MATRIX / rows;
        for (int i = 0; i < MATRIX; i++) w[i] = (double)n.w[i], m[i] = 0;
        for (int k = 1; k <= 3; k++) {
            muon_step(&n, k);
            for (int i = 0; i < MATRIX; i++) {
                m[i] = 0.95 * m[i] + 0.05 * (double)n.g[i];
                x[i] = 0.95 * m[i] + 0.05 * (double)n.g[i];
            }
            newton_schulz(x, rows, columns);
            double most = 0;
            for (int i = 0; i < MATRIX; i++) {
                w[i] -= 1e-2 * (0.1 * w[i] + 0.2 * sqrt(fmax(rows, columns)) * x[i]);
                most = fmax(most, fabs(w[i] - (double)n.w[i]));
            }
            /* steps of 2e-3 on average; the iteration makes roundings 1e3 times as large */
            if (!(most < 2e-6)) fail_msg("%d rows, step %d: %g apart", rows, k, most);
        }
        cn_adamw_destroy(n.adamw);
    }
}

static void muon_s_state_survives_a_file(void **state)
{
    (void)state;
    static muon_net a, b;
    char dir[64], path[128];
    muon_open(&a, 45);
    muon_open(&b, 45);
    for (int k = 1; k <= 3; k++) muon_step(&a, k);
    assert_true(tiny_dir_make(dir));
    snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
    must(cn_adamw_save(a.adamw, path));
    memcpy(b.w, a.w, sizeof b.w);
    memcpy(b.b, a.b, sizeof b.b);
    must(cn_adamw_load(b.adamw, path));
    muon_step(&a, 4);
    muon_step(&b, 4);
    assert_memory_equal(a.w, b.w, sizeof a.w);
    assert_memory_equal(a.b, b.b, sizeof a.b);
    cn_adamw_destroy(b.adamw);
    cn_adamw_options o;
    cn_adamw_options_default(&o);
    must(cn_adamw_create(ctx, be, (cn_param *[]){&b.q[0]}, 1, &o, &b.adamw)); /* AdamW alone */
    assert_int_equal(cn_adamw_load(b.adamw, path), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "optimizer"));
    tiny_dir_remove(dir);
    cn_adamw_destroy(a.adamw);
    cn_adamw_destroy(b.adamw);
}

static double rate(const char *name, int64_t step_index)
{
    cn_lr lr = {.base = 2,
                .warmup_steps = 10,
                .decay_steps = 20,
                .total_steps = 110,
                .cycles = 2,
                .power = 1};
    must(cn_lr_kind_find(ctx, name, &lr.kind));
    return cn_lr_at(&lr, step_index);
}

/* Values of diffusers' get_scheduler. */
static void schedules_are_diffusers(void **state)
{
    (void)state;
    assert_true(rate("constant", 0) == 2 && rate("constant", 500) == 2);
    assert_true(rate("constant_with_warmup", 0) == 0 && rate("constant_with_warmup", 5) == 1);
    assert_true(rate("constant_with_warmup", 10) == 2 && rate("linear", 5) == 1);
    assert_true(fabs(rate("linear", 60) - 1) < 1e-12 && rate("linear", 110) == 0);
    assert_true(fabs(rate("cosine", 60) - 1) < 1e-12 &&
                fabs(rate("cosine", 35) - 1.7071067812) < 1e-9);
    assert_true(fabs(rate("cosine_with_restarts", 35) - 1) < 1e-12);
    assert_true(fabs(rate("cosine_with_restarts", 60) - 2) < 1e-12);
    assert_true(fabs(rate("polynomial", 60) - 1.00000005) < 1e-12);
    assert_true(rate("polynomial", 110) == 1e-7);
    /* transformers' get_wsd_schedule with 80 stable steps and its cosine */
    assert_true(rate("warmup_stable_decay", 5) == 1 && rate("warmup_stable_decay", 89) == 2);
    assert_true(rate("warmup_stable_decay", 90) == 2 && rate("warmup_stable_decay", 110) == 0);
    assert_true(fabs(rate("warmup_stable_decay", 100) - 1) < 1e-12 &&
                fabs(rate("warmup_stable_decay", 95) - 1.7071067812) < 1e-9);
    cn_lr_kind kind;
    assert_int_equal(cn_lr_kind_find(ctx, "wavy", &kind), CN_EINVAL);
}

static void a_default_warm_up_is_a_tenth_at_most(void **state)
{
    (void)state;
    cn_lr lr = {.kind = CN_LR_COSINE, .base = 2, .warmup_steps = 10, .total_steps = 11};
    assert_int_equal(cn_lr_warmup(-1, 100000), 500);
    assert_int_equal(cn_lr_warmup(-1, 5000), 500);
    assert_int_equal(cn_lr_warmup(-1, 4999), 499);
    assert_int_equal(cn_lr_warmup(-1, 20), 2);
    assert_int_equal(cn_lr_warmup(-1, 9), 0);
    assert_int_equal(cn_lr_warmup(0, 100), 0);
    assert_int_equal(cn_lr_warmup(0.05, 1000), 50); /* int(ratio * steps), as in train_util.py */
    assert_int_equal(cn_lr_warmup(0.999, 10), 9);
    assert_int_equal(cn_lr_warmup(1, 1000), 1);
    assert_int_equal(cn_lr_warmup(700, 1000), 700);
    assert_true(cn_lr_highest(&lr) == 2);
    lr.total_steps = 10;
    assert_true(cn_lr_highest(&lr) == 2 * 9 / 10.0);
    lr.kind = CN_LR_CONSTANT;
    assert_true(cn_lr_highest(&lr) == 2);
}

static void a_decay_begins_behind_the_warm_up(void **state)
{
    (void)state;
    const cn_lr lr = {.kind = CN_LR_WARMUP_STABLE_DECAY,
                      .base = 2,
                      .warmup_steps = 10,
                      .decay_steps = 8,
                      .total_steps = 12};
    assert_true(cn_lr_at(&lr, 10) == 2 && fabs(cn_lr_at(&lr, 14) - 1) < 1e-12);
    assert_int_equal(cn_lr_decay(0.2, 1000), 200);
    assert_int_equal(cn_lr_decay(300, 1000), 300);
    cn_lr none = lr;
    none.decay_steps = 0;
    assert_true(cn_lr_at(&none, 11) == 2);
}

static void every_epoch_sees_every_item(void **state)
{
    (void)state;
    cn_shuffle *s = NULL, *later = NULL;
    int seen[3][10] = {0}, empty = 0;
    int64_t order[2][10];
    cn_buckets *one = NULL;
    must(cn_buckets_create_one(ctx, 16, 16, 10, &one));
    const cn_shuffle_options o = {
        .seed = 5, .buckets = one, .unit = 1, .timesteps = 1000, .empty_proportion = 0.5};
    must(cn_shuffle_create(ctx, &o, &s));
    must(cn_shuffle_create(ctx, &o, &later));
    for (int64_t k = 0; k < 30; k++) {
        const cn_sample a = cn_shuffle_sample(s, k);
        assert_in_range(a.timestep, 0, 999);
        seen[k / 10][a.item]++;
        if (k < 20) order[k / 10][k % 10] = a.item;
        empty += a.empty_prompt;
    }
    for (int e = 0; e < 3; e++)
        for (int i = 0; i < 10; i++) assert_int_equal(seen[e][i], 1);
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    assert_in_range(empty, 5, 25);
    const cn_sample a = cn_shuffle_sample(s, 23); /* however one gets there */
    const cn_sample b = cn_shuffle_sample(later, 23);
    assert_true(a.item == b.item && a.timestep == b.timestep && a.noise_seed == b.noise_seed);
    cn_shuffle_destroy(s);
    cn_shuffle_destroy(later);
    cn_buckets_destroy(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_formula),
        cmocka_unit_test(accumulated_gradients_are_a_mean),
        cmocka_unit_test(an_infinite_gradient_changes_nothing),
        cmocka_unit_test(a_loss_scale_changes_nothing),
        cmocka_unit_test(the_loss_scale_is_gradscalers),
        cmocka_unit_test(state_survives_a_file),
        cmocka_unit_test(matrices_follow_muon),
        cmocka_unit_test(muon_s_state_survives_a_file),
        cmocka_unit_test(schedules_are_diffusers),
        cmocka_unit_test(a_default_warm_up_is_a_tenth_at_most),
        cmocka_unit_test(a_decay_begins_behind_the_warm_up),
        cmocka_unit_test(every_epoch_sees_every_item),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
