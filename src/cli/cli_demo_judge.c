/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo_judge.c - whether drawings with control follow their condition better than chance. */
#include "cli/cli_demo.h"

void demo_judge(demo *d)
{
    double gain[DEMO_HELD], sum = 0;
    int64_t as_large = 0;
    const int n = d->n_held;
    d->agreement_with = d->agreement_without = 0;
    for (int i = 0; i < n; i++) {
        d->agreement_with += d->drawings[i].agreement_with / n;
        d->agreement_without += d->drawings[i].agreement_without / n;
        gain[i] = d->drawings[i].agreement_with - d->drawings[i].agreement_without;
        sum += gain[i];
    }
    const int64_t ways = (int64_t)1 << n;
    for (int64_t signs = 0; signs < ways; signs++) {
        double other = 0;
        for (int i = 0; i < n; i++) other += signs >> i & 1 ? -gain[i] : gain[i];
        as_large += other >= sum - 1e-9;
    }
    d->p_value = (double)as_large / (double)ways;
}

bool demo_above_chance(const demo *d)
{
    return d->agreement_with > d->agreement_without && d->p_value < DEMO_CHANCE;
}
