/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - one line per check on stdout: "ok NAME ..." or "FAIL NAME max_err ..." or "skip
 * NAME: reason", and the sums at the end: "N passed, N failed". */
#ifndef TEST_REPORT_H
#define TEST_REPORT_H

#include "base/base.h"

typedef struct test_report {
    int passed, failed, skipped;
} test_report;

void report_check(test_report *r, bool ok, const char *fmt, ...) CN_PRINTF(3, 4);
/* Largest |got - want| against tolerance times the largest |want|. True when it holds. */
bool report_close(test_report *r, const char *name, const float *got, const float *want, int64_t n,
                  double tolerance);
/* True when status is CN_OK; otherwise a FAIL line with ctx's message. */
bool report_status(test_report *r, const char *name, cn_ctx *ctx, cn_status status);
void report_skip(test_report *r, const char *fmt, ...) CN_PRINTF(2, 3);
/* Prints the sums; the program's exit status. */
int report_end(const test_report *r);

#endif
