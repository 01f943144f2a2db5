/* SPDX-License-Identifier: Apache-2.0 */
/* ranks_one.c - a build without MPI: one process, and a clear word where more are asked for. */
#include "dist/ranks.h"

cn_status cn_ranks_open(cn_ctx *ctx, cn_ranks **out)
{
    (void)out;
    return cn_fail(
        ctx, CN_EINVAL,
        "started as one of several processes, but this controlnet was built without MPI; "
        "install libopenmpi-dev and build again");
}

void cn_ranks_close(cn_ranks *r, bool ok)
{
    (void)r;
    (void)ok;
}

int cn_ranks_rank(const cn_ranks *r)
{
    (void)r;
    return 0;
}

int cn_ranks_count(const cn_ranks *r)
{
    (void)r;
    return 1;
}

bool cn_ranks_reports(const cn_ranks *r)
{
    (void)r;
    return true;
}

bool cn_ranks_lost(const cn_ranks *r)
{
    (void)r;
    return false;
}

void cn_ranks_describe(const cn_ranks *r, int rank, char out[CN_RANKS_NAME_BYTES])
{
    (void)r;
    (void)rank;
    out[0] = 0;
}

cn_status cn_ranks_sum(cn_ranks *r, double *values, int n)
{
    (void)r;
    (void)values;
    (void)n;
    return CN_OK;
}

cn_status cn_ranks_agree(cn_ranks *r, cn_status mine)
{
    (void)r;
    return mine;
}

cn_status cn_ranks_begin_sum(cn_ranks *r, float *x, int64_t n, int owner)
{
    (void)r;
    (void)x;
    (void)n;
    (void)owner;
    return CN_OK;
}

cn_status cn_ranks_begin_copy(cn_ranks *r, void *x, size_t bytes, int owner)
{
    (void)r;
    (void)x;
    (void)bytes;
    (void)owner;
    return CN_OK;
}

cn_status cn_ranks_advance(cn_ranks *r)
{
    (void)r;
    return CN_OK;
}

cn_status cn_ranks_finish(cn_ranks *r)
{
    (void)r;
    return CN_OK;
}
