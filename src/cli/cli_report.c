/* SPDX-License-Identifier: Apache-2.0 */
/* cli_report.c - what was found in a data set, for people. */
#include "cli/cli.h"

void cli_report_print(FILE *f, const cn_dataset_report *r)
{
    bool clean = true;
    cli_put(f, r->found);
    fprintf(f,
            "\n%lld of %lld pairs looked at, %lld can't be used\n%lld distinct prompts; pictures "
            "%lld x %lld to %lld x %lld\n",
            (long long)r->looked_at, (long long)r->pairs, (long long)r->problems,
            (long long)r->distinct_prompts, (long long)r->min_width, (long long)r->min_height,
            (long long)r->max_width, (long long)r->max_height);
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) {
        const cn_dataset_finding *found = &r->findings[k];
        if (!found->count) continue;
        clean = false;
        fprintf(f, "%8lld  %-38s first ", (long long)found->count, found->name);
        cli_put(f, found->first);
        fprintf(f, "\n          %s\n", found->advice);
    }
    if (clean && !r->problems) fprintf(f, "nothing suspicious\n");
}
