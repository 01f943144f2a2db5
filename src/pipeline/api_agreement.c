/* SPDX-License-Identifier: Apache-2.0 */
/* api_agreement.c - controlnet.h's measure of agreement; reports themselves are eval/report.c's. */
#include "eval/agreement.h"

cn_status cn_condition_agreement(cn_ctx *ctx, const char *kind, const cn_image *found,
                                 const cn_image *wanted, cn_agreement *out)
{
    cn_annotate_args a;
    CN_TRY(cn_annotate_read(ctx, kind, &a));
    if (!a.kind->measure)
        return cn_fail(ctx, CN_EINVAL, "%s: its conditions can't be compared", a.kind->name);
    return cn_measure_run(ctx, a.kind->measure, found, wanted, out);
}
