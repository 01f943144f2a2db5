/* SPDX-License-Identifier: Apache-2.0 */
/* sums.h - the sum over a group's 128 items, as a tree: the same bytes at each run. All items call
 * it, and all get it. */
FUNC(float, sum_of_items, float part)
{
    BARRIER();
    sums[ITEM] = part;
    BARRIER();
    for (int k = 64; k > 0; k = k / 2) {
        if (ITEM < k) sums[ITEM] += sums[ITEM + k];
        BARRIER();
    }
    return sums[0];
}
