/* SPDX-License-Identifier: Apache-2.0 */
/* norm_grad.h - gradients of norm.k. With h = (x - mean) / deviation and dz the gradient of what
 * the activation gets:
 *   DX      dx = (gamma dz - mean(gamma dz) - h mean(gamma dz h)) / deviation; dx may be dy
 *   DGAMMA  sums over images and positions of dz h and of dz, a group of items for each channel */
ARGS(F32 dy; F32 x; F32 stats; F32 gamma; F32 beta; F32 dx; F32 dgamma; F32 dbeta; int N; int P;
     int C; int groups; int flags;)
SHARED(float, sums, 128)
#include "gpu/kernels/functions.h"
#include "gpu/kernels/sums.h"

/* of element `at` in the group number `job`; flags: 8 SiLU, 16 dgamma, 32 dbeta */
FUNC(float, h_of, int at, int job)
{
    return (AT(p.x, at) - AT(p.stats, 2 * job)) * AT(p.stats, 2 * job + 1);
}

FUNC(float, dz_of, int at, float h)
{
    const float d = AT(p.dy, at);
    if ((p.flags & 8) == 0) return d;
    const int c = at % p.C;
    return d * CALL(silu_slope, AT(p.gamma, c) * h + AT(p.beta, c), 1.0f);
}

#ifdef DX
KERNEL(norm_dx, 128)
{
    const int job = GROUP_Y * GROUPS_X + GROUP_X;
    if (job >= p.N * p.groups) return;
    const int width = p.C / p.groups, n = p.P * width;
    const int first = job / p.groups * p.P * p.C + job % p.groups * width;
    float part = 0.0f, with_h = 0.0f;
    for (int i = ITEM; i < n; i += 128) {
        const int at = first + i / width * p.C + i % width;
        const float h = CALL(h_of, at, job), g = AT(p.gamma, at % p.C) * CALL(dz_of, at, h);
        part += g;
        with_h += g * h;
    }
    const float mean = CALL(sum_of_items, part) / float(n);
    const float mean_h = CALL(sum_of_items, with_h) / float(n);
    for (int i = ITEM; i < n; i += 128) {
        const int at = first + i / width * p.C + i % width;
        const float h = CALL(h_of, at, job), g = AT(p.gamma, at % p.C) * CALL(dz_of, at, h);
        AT(p.dx, at) = (g - mean - h * mean_h) * AT(p.stats, 2 * job + 1);
    }
}
#else
KERNEL(norm_dgamma, 128)
{
    const int c = GROUP_X, width = p.C / p.groups;
    float dgamma = 0.0f, dbeta = 0.0f;
    for (int i = ITEM; i < p.N * p.P; i += 128) {
        const int at = i * p.C + c;
        const float h = CALL(h_of, at, i / p.P * p.groups + c / width), dz = CALL(dz_of, at, h);
        dgamma += dz * h;
        dbeta += dz;
    }
    const float all = CALL(sum_of_items, dgamma), all_beta = CALL(sum_of_items, dbeta);
    if (ITEM != 0) return;
    if ((p.flags & 16) != 0) AT(p.dgamma, c) = all;
    if ((p.flags & 32) != 0) AT(p.dbeta, c) = all_beta;
}
#endif
