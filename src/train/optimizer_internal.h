/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer_internal.h - what AdamW keeps, for stepping (optimizer.c) and for files
 * (optimizer_file.c). */
#ifndef CN_TRAIN_OPTIMIZER_INTERNAL_H
#define CN_TRAIN_OPTIMIZER_INTERNAL_H

#include "train/optimizer.h"

struct cn_adamw {
    cn_ctx *ctx;
    cn_backend *be;
    cn_adamw_options o;
    double loss_scale;
    int64_t n, steps, summed; /* summed: backward passes in `sum` */
    cn_param **params;
    int64_t *steps_of; /* of each parameter: one without gradient waits, as in torch */
    cn_moment *m, *v;  /* v without anything where Muon is at work */
    cn_moment *ema;    /* NULL: none; F32 */
    float **sum;       /* sum[i] NULL until something was accumulated */
    float **staged;    /* [n] NULL until ranks exchanged it: what isn't the host's, in its memory */
    cn_floats *squared;  /* [n] room for a list of gradients */
    float *matrix;       /* room for Muon: the largest such parameter, plain, */
    float *update;       /* and physical */
    size_t update_bytes; /* its size */
    bool *has_sum;
    bool *taken; /* the last pass's gradient was added, and its sum over the ranks begun */
    int *owner;  /* the rank that keeps the moments: by the parameter's name, so it never changes */
    cn_quant8 map[2]; /* of m, signed, and of v */
};

/* Scales of one of q's moments in bytes. */
static inline size_t cn_moment_blocks(const cn_param *q)
{
    return ((size_t)cn_param_physical(q) + CN_QUANT8_BLOCK - 1) / CN_QUANT8_BLOCK;
}

static inline bool cn_adamw_owns(const cn_adamw *a, int64_t i)
{
    return a->owner[i] == cn_ranks_rank(a->o.ranks);
}

/* Whether q learns by Muon. */
bool cn_muon_learns(const cn_adamw_options *o, const cn_param *q);
/* Room for the parameters that do. */
cn_status cn_muon_allocate(cn_adamw *a) CN_CHECKED;
void cn_muon_free(cn_adamw *a);
/* One step of parameter i with its gradient. */
cn_status cn_muon_update(cn_adamw *a, int64_t i, const float *grad, double lr) CN_CHECKED;

/* Whether moments of q are kept in bytes. */
bool cn_moment_in_bytes(const cn_adamw_options *o, const cn_param *q);
/* Bytes of a moment's codes, which kernels read in words. */
static inline size_t cn_moment_code_bytes(const cn_param *q)
{
    return ((size_t)cn_param_physical(q) + 3) & ~(size_t)3;
}

#endif
