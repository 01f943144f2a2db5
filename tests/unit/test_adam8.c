/* SPDX-License-Identifier: Apache-2.0 */
/* test_adam8.c - AdamW with moments in bytes against numpy and bitsandbytes' maps (tests/golden/
 * adam8.safetensors, made by tools/make-adam8-fixture.py), its convergence beside F32's, and its
 * files. */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "io/tensors.h"
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 4268, STEPS = 5, BLOCKS = (N + CN_QUANT8_BLOCK - 1) / CN_QUANT8_BLOCK };

static cn_backend *be;

static int set_up(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    return ctx && cn_backend_cpu_create(ctx, &be) == CN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    be->destroy(be);
    cn_ctx_destroy(ctx);
    return 0;
}

/* One parameter of n values. */
typedef struct net {
    cn_param q;
    float *w, *g;
    cn_adamw *adamw;
} net;

static void net_open(net *t, int64_t n, bool use_8bit)
{
    *t = (net){.w = cn_alloc_array(ctx, (size_t)n, sizeof(float)),
               .g = cn_alloc_array(ctx, (size_t)n, sizeof(float))};
    assert_true(t->w && t->g);
    t->q = (cn_param){.ndim = 1, .shape = {n}, .loaded = true, .data = t->w};
    t->q.data_bytes = (size_t)n * sizeof(float);
    t->q.diffusers_name = t->q.ldm_name = "w";
    t->q.network = "net";
    cn_seed_tensor("weights", 0, 1, t->w, n);
    cn_adamw_options o;
    cn_adamw_options_default(&o);
    o.use_8bit = use_8bit;
    must(cn_adamw_create(ctx, be, (cn_param *[]){&t->q}, 1, &o, &t->adamw));
}

static void net_close(net *t)
{
    cn_adamw_destroy(t->adamw);
    cn_free(t->w);
    cn_free(t->g);
}

/* The fixture's k-th gradient: blocks of different sizes, values between them far apart. */
static void step(net *t, int k)
{
    char key[16];
    snprintf(key, sizeof key, "g%d", k);
    cn_seed_tensor(key, 0, 1, t->g, N);
    for (int i = 0; i < N; i++)
        t->g[i] = ldexpf(t->g[i] * t->g[i] * t->g[i], -(i / CN_QUANT8_BLOCK));
    must(cn_adamw_run(t->adamw, (const float *[]){t->g}, 1e-2, 0, NULL));
}

static float *read_tensor(const cn_tensors *file, const char *name, int64_t n)
{
    const cn_tensor_info *info = cn_tensors_find(file, name);
    float *out = calloc((size_t)n, sizeof *out);
    assert_true(out && info && info->elements == n);
    must(cn_tensors_read(ctx, file, info, out));
    return out;
}

static cn_tensors *golden(void)
{
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, "tests/golden/adam8.safetensors", &t));
    return t;
}

static cn_tensors *saved_state(const net *t, char dir[64])
{
    char path[128];
    cn_tensors *file = NULL;
    assert_true(tiny_dir_make(dir));
    snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
    must(cn_adamw_save(t->adamw, path));
    must(cn_tensors_open(ctx, path, &file));
    return file;
}

static void maps_are_bitsandbytes(void **state)
{
    (void)state;
    cn_tensors *file = golden();
    cn_quant8 q;
    for (int k = 0; k < 2; k++) {
        float *want = read_tensor(file, k ? "v.map" : "m.map", 256);
        cn_quant8_init(&q, k == 0);
        for (int i = 0; i < 256; i++) /* the source computes in float32 */
            assert_true(fabsf(q.value[i] - want[i]) <= 3e-7f * fabsf(want[i]));
        free(want);
    }
    cn_tensors_close(file);
}

static void codes_are_the_nearest(void **state)
{
    (void)state;
    cn_quant8 q;
    float x[20000];
    cn_seed_tensor("any", 0, 1, x, (int64_t)CN_COUNT(x));
    for (int k = 0; k < 2; k++) {
        cn_quant8_init(&q, k == 0);
        for (int i = 0; i < (int)CN_COUNT(x); i++) {
            float y = x[i] * powf(10, -(float)(i % 9));
            if (k) y = fabsf(y);
            const int code = cn_quant8_code(&q, y);
            const float error = fabsf(q.value[code] - y);
            const int least = k && y > 0; /* a second moment above 0 doesn't become 0 */
            assert_true(code >= least);
            for (int c = least; c < 256; c++)
                assert_true(error <= fabsf(q.value[c] - y) * 1.000001f);
        }
        assert_true(q.value[cn_quant8_code(&q, 1)] == 1 && q.value[cn_quant8_code(&q, 0)] == 0);
        for (int c = 0; c < 256; c++) assert_int_equal(cn_quant8_code(&q, q.value[c]), c);
    }
}

/* --- the kernels, of every instruction set, against the base's tables ------------------------- */

enum { KERNEL_N = 40 * CN_QUANT8_BLOCK + 77 };

typedef struct moments {
    cn_quant8 map[2];
    float w[KERNEL_N], g[KERNEL_N];
    uint8_t codes[2][KERNEL_N];
    float scales[2][KERNEL_N / CN_QUANT8_BLOCK + 1];
} moments;

static cn_adamw_step step_of(moments *t, float beta)
{
    return (cn_adamw_step){.weights = t->w,
                           .grad = t->g,
                           .n = KERNEL_N,
                           .m = {.codes = t->codes[0], .scales = t->scales[0], .map = &t->map[0]},
                           .v = {.codes = t->codes[1], .scales = t->scales[1], .map = &t->map[1]},
                           .grad_scale = 1,
                           .lr = 1,
                           .beta1 = beta,
                           .beta2 = beta,
                           .eps = 1,
                           .correct1 = 1,
                           .correct2 = 1};
}

static moments *moments_open(void)
{
    moments *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (int k = 0; k < 2; k++) cn_quant8_init(&t->map[k], k == 0);
    return t;
}

/* Sizes of all decades, and of each border between two codes the float that is nearest and both
 * beside it, by the scale of its block. Of a block the last is the largest. */
static void sizes_to_code(const moments *t, float *x)
{
    cn_seed_tensor("sizes", 0, 1, x, KERNEL_N);
    for (int i = 0; i < KERNEL_N; i++) {
        const cn_quant8 *q = &t->map[i / 3 % 2];
        const float scale = ldexpf(1 + (float)(i / CN_QUANT8_BLOCK) / 41, i / CN_QUANT8_BLOCK - 20);
        const float border = q->above[i / 6 % 256];
        float size = border < 1 ? border : 0;
        if (i / CN_QUANT8_BLOCK % 3 == 0) size *= size;       /* a second moment is its square */
        if (i / CN_QUANT8_BLOCK % 3 == 1) size = sqrtf(size); /* or it is a border */
        if (i % 3 == 0) size = nextafterf(size, 0);
        if (i % 3 == 1) size = nextafterf(size, 1);
        if (i % 7 == 0) size = fabsf(x[i]) * powf(10, -(float)(i % 11));
        if (i % CN_QUANT8_BLOCK == CN_QUANT8_BLOCK - 1) size = 1;
        x[i] = (x[i] < 0 ? -scale : scale) * size;
    }
}

/* Moments are the gradient and its square; codes are those of the base's tables, divided exactly.
 */
static void check_codes(moments *t, cn_isa isa)
{
    memset(t->codes, 0, sizeof t->codes);
    memset(t->scales, 0, sizeof t->scales);
    const cn_adamw_step s = step_of(t, 0);
    cn_cpu_kernels(isa)->adamw(&s);
    for (int from = 0; from < KERNEL_N; from += CN_QUANT8_BLOCK) {
        const int end = CN_MIN(from + CN_QUANT8_BLOCK, KERNEL_N);
        float most = 0;
        for (int i = from; i < end; i++) most = fmaxf(most, fabsf(t->g[i]));
        const float scales[2] = {most, most * most};
        for (int k = 0; k < 2; k++) {
            const cn_quant8 *q = &t->map[k];
            assert_true(t->scales[k][from / CN_QUANT8_BLOCK] == scales[k]);
            for (int i = from; i < end; i++) {
                const float x = k ? t->g[i] * t->g[i] : t->g[i];
                const int code = scales[k] > 0 ? cn_quant8_code(q, x / scales[k]) : q->zero;
                assert_int_equal(t->codes[k][i], code);
            }
        }
    }
}

static void kernels_code_as_the_base(void **state)
{
    (void)state;
    moments *t = moments_open();
    sizes_to_code(t, t->g);
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++) check_codes(t, (cn_isa)isa);
    free(t);
}

/* Blocks whose largest is from 2^-149 to 2^63 (its square from 0 to 2^126), in each sizes down to
 * 2^-55 of it, zeros of both signs and, where a border times the scale is exact, ties. */
static void kernels_code_wide_ranges(void **state)
{
    (void)state;
    moments *t = moments_open();
    const int blocks = (int)CN_COUNT(t->scales[0]);
    for (int round = 0; round < 12; round++) {
        char name[32];
        snprintf(name, sizeof name, "wide %d", round);
        cn_seed_tensor(name, 0, 1, t->g, KERNEL_N);
        for (int i = 0; i < KERNEL_N; i++) {
            const int block = i / CN_QUANT8_BLOCK, top = -149 + 212 * block / (blocks - 1);
            const cn_quant8 *q = &t->map[round % 2];
            const float border = q->above[(i * 7 + round) % 256];
            float size = ldexpf(fminf(fabsf(t->g[i]) / 4, 1), -(i * 11 % 56));
            if (i % 5 == 1 && border < 1) size = border;
            if (i % 5 == 2 && border < 1) size = nextafterf(border, (float)(i / 5 % 2));
            if (i % 31 == 3) size = 0;
            if (i % CN_QUANT8_BLOCK == (round * 37 + block) % 200) size = 1;
            t->g[i] = copysignf(ldexpf(size, top), t->g[i]);
            if (round % 3) t->g[i] *= 1 + (float)round / 16; /* a scale that is no power of two */
        }
        for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++) check_codes(t, (cn_isa)isa);
    }
    free(t);
}

/* A step of -m / (sqrt(v) + 1) from 0 says which values the codes have. */
static void kernels_read_all_codes(void **state)
{
    (void)state;
    moments *t = moments_open();
    for (int isa = CN_ISA_V2; isa <= (int)cn_cpu_isa(); isa++)
        for (int shift = 0; shift < 2; shift++) {
            const cn_adamw_step s = step_of(t, 1);
            memset(t->w, 0, sizeof t->w);
            memset(t->g, 0, sizeof t->g);
            for (int i = 0; i < KERNEL_N; i++) {
                t->codes[0][i] = (uint8_t)(i + 100 * shift);
                t->codes[1][i] = shift ? (uint8_t)i : 0;
            }
            for (size_t b = 0; b < CN_COUNT(t->scales[0]); b++)
                t->scales[0][b] = t->scales[1][b] = ldexpf(1, (int)b % 9);
            cn_cpu_kernels((cn_isa)isa)->adamw(&s);
            for (int i = 0; i < KERNEL_N; i++) {
                const float scale = ldexpf(1, i / CN_QUANT8_BLOCK % 9);
                const float m = t->map[0].value[(uint8_t)(i + 100 * shift)] * scale;
                const float v = shift ? t->map[1].value[(uint8_t)i] * scale : 0;
                assert_true(t->w[i] == -(m / (sqrtf(v) + 1)));
            }
        }
    free(t);
}

/* Moments may differ where a value lies half way between two codes, to one unit in its last
 * place. */
static void check_moment(const cn_tensors *want, const cn_tensors *got, const char *kind)
{
    char name[16], scale[16], map[16];
    snprintf(name, sizeof name, "%s.net.w", kind);
    snprintf(scale, sizeof scale, "%s.scale", kind);
    snprintf(map, sizeof map, "%s.map", kind);
    float *codes = read_tensor(want, kind, N), *scales = read_tensor(want, scale, BLOCKS);
    float *values = read_tensor(want, map, 256), *mine = read_tensor(got, name, N);
    int different = 0;
    for (int i = 0; i < N; i++) {
        const float w = values[(int)codes[i]] * scales[i / CN_QUANT8_BLOCK];
        different += fabsf(mine[i] - w) > 1e-5f * fabsf(w);
    }
    assert_in_range(different, 0, N / 1000);
    free(codes);
    free(scales);
    free(values);
    free(mine);
}

static void steps_are_the_reference(void **state)
{
    (void)state;
    char dir[64];
    net t;
    cn_tensors *want = golden();
    float *weights = read_tensor(want, "weights", N);
    net_open(&t, N, true);
    for (int k = 1; k <= STEPS; k++) step(&t, k);
    cn_tensors *got = saved_state(&t, dir);
    check_moment(want, got, "m");
    check_moment(want, got, "v");
    int different = 0;
    for (int i = 0; i < N; i++) different += fabsf(t.w[i] - weights[i]) > 1e-5f;
    assert_in_range(different, 0, N / 1000); /* what a code at its border changes */
    cn_tensors_close(got);
    cn_tensors_close(want);
    tiny_dir_remove(dir);
    free(weights);
    net_close(&t);
}

static void state_survives_a_file(void **state)
{
    (void)state;
    char dir[64], again[64], path[128];
    net a, b;
    net_open(&a, N, true);
    net_open(&b, N, true);
    for (int k = 1; k <= 3; k++) step(&a, k);
    cn_tensors *first = saved_state(&a, dir);
    snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
    memcpy(b.w, a.w, a.q.data_bytes);
    must(cn_adamw_load(b.adamw, path));
    cn_tensors *second = saved_state(&b, again);
    for (int64_t i = 0; i < cn_tensors_count(first); i++) {
        const cn_tensor_info *x = cn_tensors_at(first, i), *y = cn_tensors_at(second, i);
        assert_string_equal(x->name, y->name);
        assert_memory_equal(x->data, y->data, (size_t)x->elements * sizeof(float));
    }
    for (int k = 4; k <= 6; k++) {
        step(&a, k);
        step(&b, k);
    }
    assert_memory_equal(a.w, b.w, a.q.data_bytes);
    cn_tensors_close(first);
    cn_tensors_close(second);
    tiny_dir_remove(dir);
    tiny_dir_remove(again);
    net_close(&a);
    net_close(&b);
}

/* A run may go on with the other kind of moments: rounded once, or wider than they were. */
static void states_change_kind(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        char dir[64], path[128];
        net a, b;
        net_open(&a, N, from);
        net_open(&b, N, !from);
        for (int k = 1; k <= 3; k++) step(&a, k);
        cn_tensors_close(saved_state(&a, dir));
        snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
        memcpy(b.w, a.w, a.q.data_bytes);
        must(cn_adamw_load(b.adamw, path));
        step(&a, 4);
        step(&b, 4);
        double difference = 0;
        for (int i = 0; i < N; i++) difference += fabs((double)(a.w[i] - b.w[i])) / N;
        assert_true(difference < 1e-3); /* a tenth of what the step may move a weight */
        tiny_dir_remove(dir);
        net_close(&a);
        net_close(&b);
    }
}

/* Least squares with inputs of very different sizes; returns the loss after `steps`. */
static double descend(bool use_8bit, int steps)
{
    enum { INPUTS = 8192, ROWS = 16 };
    net t;
    float *x = calloc((size_t)INPUTS * ROWS, sizeof *x), y[ROWS];
    double loss = 0;
    assert_non_null(x);
    net_open(&t, INPUTS, use_8bit);
    cn_seed_tensor("inputs", 0, 1, x, (int64_t)INPUTS * ROWS);
    cn_seed_tensor("answers", 0, 1, y, ROWS);
    for (int64_t i = 0; i < (int64_t)INPUTS * ROWS; i++) x[i] *= ldexpf(1, -(int)(i % 11));
    for (int k = 0; k < steps; k++) {
        memset(t.g, 0, t.q.data_bytes);
        loss = 0;
        for (int r = 0; r < ROWS; r++) {
            const float *row = x + (size_t)r * INPUTS;
            double error = -(double)y[r];
            for (int i = 0; i < INPUTS; i++) error += (double)row[i] * (double)t.w[i];
            loss += error * error / ROWS;
            for (int i = 0; i < INPUTS; i++) t.g[i] += (float)(2 * error / ROWS) * row[i];
        }
        must(cn_adamw_run(t.adamw, (const float *[]){t.g}, 1e-3, 0, NULL));
    }
    free(x);
    net_close(&t);
    return loss;
}

static void it_converges_as_f32_does(void **state)
{
    (void)state;
    const double start = descend(true, 1), bytes = descend(true, 150), full = descend(false, 150);
    assert_true(full < start * 0.01);
    assert_true(bytes < start * 0.01);
}

static void memory_is_counted(void **state)
{
    (void)state;
    cn_param large = {.ndim = 1, .shape = {1 << 20}, .data_bytes = 4 << 20};
    cn_param small = {.ndim = 1, .shape = {4095}, .data_bytes = 4 * 4095};
    cn_param *const both[] = {&large, &small};
    cn_adamw_options o;
    cn_adamw_options_default(&o);
    assert_int_equal(cn_adamw_bytes(both, 2, &o), 2 * (large.data_bytes + small.data_bytes));
    o.use_8bit = true;
    assert_int_equal(cn_adamw_bytes(both, 1, &o), 2 * (1 << 20) + 2 * 4096 * 4);
    assert_int_equal(cn_adamw_bytes(both + 1, 1, &o), 2 * 4095 * 4);
    o.accumulates = true;
    assert_int_equal(cn_adamw_bytes(both + 1, 1, &o), 3 * 4095 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_bitsandbytes),    cmocka_unit_test(kernels_code_as_the_base),
        cmocka_unit_test(kernels_code_wide_ranges), cmocka_unit_test(kernels_read_all_codes),
        cmocka_unit_test(codes_are_the_nearest),    cmocka_unit_test(steps_are_the_reference),
        cmocka_unit_test(state_survives_a_file),    cmocka_unit_test(states_change_kind),
        cmocka_unit_test(it_converges_as_f32_does), cmocka_unit_test(memory_is_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
