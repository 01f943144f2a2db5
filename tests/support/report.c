/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - see report.h. */
#include "report.h"
#include "values.h"

static void count(test_report *r, bool ok)
{
    if (ok)
        r->passed++;
    else
        r->failed++;
}

void report_check(test_report *r, bool ok, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf(ok ? "ok   " : "FAIL ");
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout);
    va_end(ap);
    count(r, ok);
}

bool report_close(test_report *r, const char *name, const float *got, const float *want, int64_t n,
                  double tolerance)
{
    test_error e = test_compare_f32(got, want, n);
    bool ok = test_relative(e) <= tolerance;
    report_check(r, ok, "%-48s max_err %.3g of %.3g (%.2g, allowed %.0g)%s", name, e.max_err,
                 e.max_want, test_relative(e), tolerance, ok ? "" : " <--");
    if (!ok)
        printf("     element %lld of %lld is %.9g, should be %.9g\n", (long long)e.at, (long long)n,
               (double)got[e.at], (double)want[e.at]);
    return ok;
}

bool report_status(test_report *r, const char *name, cn_ctx *ctx, cn_status status)
{
    if (status == CN_OK) return true;
    report_check(r, false, "%s: %s: %s", name, cn_status_name(status), cn_error(ctx));
    return false;
}

void report_skip(test_report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("SKIP ");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    r->skipped++;
}

int report_end(const test_report *r)
{
    printf("%d passed, %d failed", r->passed, r->failed);
    if (r->skipped) printf(", %d skipped", r->skipped);
    printf("\n");
    return r->failed || !r->passed ? 1 : 0;
}
