/* SPDX-License-Identifier: Apache-2.0 */
/* op_main.h - runs families of rows (op_harness.h) as cmocka tests, one test per row. */
#ifndef TEST_OP_MAIN_H
#define TEST_OP_MAIN_H

#include "op_harness.h"
#include "values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct op_row {
    const op_family *family;
    const op_case *c;
    char name[256];
} op_row;

static void op_row_test(void **state)
{
    const op_row *row = *state;
    char message[1024] = "";
    if (!op_case_run(row->family, row->c, message, sizeof message)) fail_msg("%s", message);
}

static int op_main(const char *group, const op_family *const *families, size_t n_families)
{
    size_t n = 0, k = 0;
    for (size_t i = 0; i < n_families; i++) n += families[i]->n_cases;
    op_row *rows = test_alloc(n * sizeof *rows);
    struct CMUnitTest *tests = test_alloc(n * sizeof *tests);
    for (size_t i = 0; i < n_families; i++)
        for (size_t j = 0; j < families[i]->n_cases; j++, k++) {
            rows[k].family = families[i];
            rows[k].c = &families[i]->cases[j];
            op_case_name(families[i], rows[k].c, rows[k].name, sizeof rows[k].name);
            tests[k].name = rows[k].name;
            tests[k].test_func = op_row_test;
            tests[k].initial_state = &rows[k];
        }
    int failed = _cmocka_run_group_tests(group, tests, n, NULL, NULL);
    free(tests);
    free(rows);
    return failed;
}

#define OP_FAMILIES(...)                                                          \
    int main(void)                                                                \
    {                                                                             \
        const op_family *const families[] = {__VA_ARGS__};                        \
        return op_main(__FILE__, families, sizeof families / sizeof families[0]); \
    }

#endif
