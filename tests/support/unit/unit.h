/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h - what unit tests share: the context, a folder for their files, statuses that end a test.
 * Linked into cmocka programs only. */
#ifndef TEST_UNIT_H
#define TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

extern cn_ctx *ctx;
extern char root[64]; /* the folder of this run's files, "" for none */

/* Opens ctx and makes root, for a group's set_up: 0, or -1 when there can't be one. */
int unit_open(int threads);
/* Whether there is a device; where there is none it says why, as a skip. */
bool unit_device_found(void);
/* A group's tear_down: root goes with all in it, ctx too. */
int unit_close(void **state);

/* Ends the test with the context's message. */
void must(cn_status s);
void refused(cn_status s, cn_status want, const char *words);

/* root/name */
void path_in(char out[256], const char *name);
/* Whether two folders hold the same bytes under a name. */
bool same_file(const char *dir_a, const char *dir_b, const char *name);
/* Whether two safetensors files hold the same tensors; checkpoints of two runs differ in what they
 * say about themselves. */
bool same_tensors(const char *dir_a, const char *dir_b, const char *name);
/* A file's tensors, as another program would write them: nothing but the format beside them, and
 * an empty tensor called `mark` (NULL: none). */
void copy_tensors(const char *from, const char *to, const char *mark);

#endif
