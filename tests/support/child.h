/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - other processes: the test program run once more, whose peak of memory nothing else
 * shares, and where the program stands that tests of the command line run. */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* The whole path of `given`, or where that is NULL of ../controlnet beside this test program;
 * false, with a line on stderr, where none can be run. */
bool test_find_controlnet(const char *given, char path[PATH_MAX]);
/* Runs this program with args (args[0] a name, NULL at the end); false unless it exits with 0. */
bool test_run_self(char *const *args);
/* In the child: what was planned and what was real, to a file. Returns its exit status. */
int test_write_plan(const char *path, size_t planned_bytes, size_t real_bytes);
/* In the parent: whether both are within 3 % of each other, printed behind `what`. */
bool test_near_plan(const char *what, const char *path);

#endif
