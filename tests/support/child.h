/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - other processes: the test program run once more, whose peak of memory nothing else
 * shares, and where the program stands that tests of the command line run. */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The whole path of `given`, or where that is NULL of ../controlnet beside this test program;
 * false, with a line on stderr, where none can be run. */
bool test_find_controlnet(const char *given, char path[PATH_MAX]);
/* The same for a program named from the folder of this test program: "controlnet-faults". */
bool test_find_beside(const char *name, char path[PATH_MAX]);
/* Starts a program (argv[0] looked for in PATH, NULL at the end) that ends with this one. output:
 * what its stdout and stderr become, -1: they stay. The process, -1 where there can't be one; exit
 * status 127 where there is no such program. */
pid_t test_start(char *const *argv, int output);
/* Waits for it, and ends it when that takes longer than `seconds`: no test waits for ever. Its exit
 * status, 128 + the number of the signal that ended it. */
int test_wait(pid_t pid, double seconds);
/* The same; before, what it writes to the pipe's end `fd`, of which `said` gets size - 1 bytes. */
int test_read(pid_t pid, int fd, double seconds, char *said, size_t size);
/* Runs this program with args (args[0] a name, NULL at the end), TEST_CHILD_SECONDS at most; false
 * unless it exits with 0. */
bool test_run_self(char *const *args);
enum { TEST_CHILD_SECONDS = 300 };
/* In the child: what was planned and what was real, to a file. Returns its exit status. */
int test_write_plan(const char *path, size_t planned_bytes, size_t real_bytes);
/* In the parent: whether both are within 3 % of each other, printed behind `what`. */
bool test_near_plan(const char *what, const char *path);

#endif
