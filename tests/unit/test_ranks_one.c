/* SPDX-License-Identifier: Apache-2.0 */
/* test_ranks_one.c - what a build without MPI is left with (src/dist/ranks_one.c), in every build:
 * linked before the library it takes the place of the one with MPI. A function that it lacked would
 * come from there, with all of that file's others beside its own, and the program wouldn't link.
 */
#include "../support/unit/tiny_run.h"
#include "dist/ranks.h"

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

static void there_is_one_process(void **state)
{
    (void)state;
    double value = 3;
    assert_int_equal(cn_ranks_rank(NULL), 0);
    assert_int_equal(cn_ranks_count(NULL), 1);
    assert_true(cn_ranks_reports(NULL) && !cn_ranks_lost(NULL));
    must(cn_ranks_sum(NULL, &value, 1));
    assert_true(value == 3);
    assert_int_equal(cn_ranks_agree(NULL, CN_EIO), CN_EIO);
    must(cn_ranks_agree(NULL, CN_OK));
}

static void it_trains_and_several_are_refused(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "one");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 2;
    o.gradient_accumulation_steps = 2;
    o.validation_steps = 2;
    o.validation_count = 2;
    o.validation_sampling_steps = 1;
    o.checkpointing_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    o.distributed = true;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "built without MPI");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_one_process),
        cmocka_unit_test(it_trains_and_several_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
