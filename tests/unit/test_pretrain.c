/* SPDX-License-Identifier: Apache-2.0 */
/* test_pretrain.c - the stages of training a small base from scenes: what each leaves as it was,
 * exact resume. */
#include "../support/unit/unit.h"

#include "controlnet.h"
#include "io/tensors.h"

#include <stdlib.h>
#include <string.h>

static const char weights[] = "vae/diffusion_pytorch_model.safetensors";

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

static cn_pretrain_options small(const char *dir, const char *stage, int64_t steps)
{
    cn_pretrain_options o;
    cn_pretrain_options_default(&o);
    o.output_dir = dir;
    o.stage = stage;
    o.size_px = 64;
    o.vae_steps = steps;
    o.vae_batch = 1;
    return o;
}

/* How many of the file's tensors whose name begins with `with` have the same values in both. */
static void count_same(const char *dir_a, const char *dir_b, const char *with, int64_t *same,
                       int64_t *all)
{
    char path[512];
    cn_tensors *t[2];
    snprintf(path, sizeof path, "%s/%s", dir_a, weights);
    must(cn_tensors_open(ctx, path, &t[0]));
    snprintf(path, sizeof path, "%s/%s", dir_b, weights);
    must(cn_tensors_open(ctx, path, &t[1]));
    *same = *all = 0;
    for (int64_t i = 0; i < cn_tensors_count(t[0]); i++) {
        const cn_tensor_info *a = cn_tensors_at(t[0], i), *b = cn_tensors_find(t[1], a->name);
        if (strncmp(a->name, with, strlen(with)) != 0) continue;
        assert_non_null(b);
        assert_int_equal(a->elements, b->elements);
        float *x = malloc((size_t)a->elements * sizeof *x), *y = malloc((size_t)a->elements * 4);
        must(cn_tensors_read(ctx, t[0], a, x));
        must(cn_tensors_read(ctx, t[1], b, y));
        *same += memcmp(x, y, (size_t)a->elements * sizeof *x) == 0;
        (*all)++;
        free(x);
        free(y);
    }
    cn_tensors_close(t[0]);
    cn_tensors_close(t[1]);
}

/* The same one each time. */
static void begin(const char *dir)
{
    cn_pretrain_options o = small(dir, "vae", 10);
    must(cn_pretrain(ctx, &o));
}

static void cancel_at_two(void *user, const char *stage, int64_t step, int64_t steps, double loss,
                          double seconds)
{
    (void)stage, (void)steps, (void)loss, (void)seconds;
    if (step == 2) cn_cancel(user);
}

static void the_decoder_alone_learns_and_goes_on_where_it_stopped(void **state)
{
    (void)state;
    char begun[256], straight[256], stopped[256];
    int64_t same, all;
    path_in(begun, "begun");
    path_in(straight, "straight");
    path_in(stopped, "stopped");
    begin(begun);
    begin(straight);
    begin(stopped);
    cn_pretrain_options o = small(straight, "decoder", 4);
    must(cn_pretrain(ctx, &o));
    o = small(stopped, "decoder", 4);
    o.progress = cancel_at_two;
    o.user = cn_ctx_create(1);
    assert_non_null(o.user);
    assert_int_equal(cn_pretrain(o.user, &o), CN_ECANCELLED);
    assert_non_null(strstr(cn_error(o.user), "goes on"));
    cn_ctx_destroy(o.user);
    o.progress = NULL;
    must(cn_pretrain(ctx, &o));
    assert_true(same_file(straight, stopped, weights));
    assert_true(same_file(begun, straight, "vae/config.json"));
    count_same(begun, straight, "encoder.", &same, &all);
    assert_true(all > 0);
    assert_int_equal(same, all);
    count_same(begun, straight, "quant_conv.", &same, &all);
    assert_int_equal(all, 2);
    assert_int_equal(same, all);
    count_same(begun, straight, "decoder.", &same, &all);
    assert_true(same < all / 2);
}

static void a_decoder_needs_a_finished_vae(void **state)
{
    (void)state;
    char dir[256];
    path_in(dir, "none");
    cn_pretrain_options o = small(dir, "decoder", 4);
    refused(cn_pretrain(ctx, &o), CN_EIO, "vae/config.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_decoder_alone_learns_and_goes_on_where_it_stopped),
        cmocka_unit_test(a_decoder_needs_a_finished_vae),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
