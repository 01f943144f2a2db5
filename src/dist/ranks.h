/* SPDX-License-Identifier: Apache-2.0 */
/* ranks.h - the processes of a distributed run (MPI's ranks) and their collectives.
 *
 * A run alone has no cn_ranks: every function takes NULL and then speaks for one process. A build
 * without MPI has ranks_one.c in place of ranks_mpi.c and can't open any.
 *
 * Every rank makes the same calls in the same order. Whoever waits looks after the other processes
 * of its machine: one that died ends the wait with CN_EIO, and cn_ranks_reports says which rank
 * reports it.
 */
#ifndef CN_DIST_RANKS_H
#define CN_DIST_RANKS_H

#include "base/base.h"

typedef struct cn_ranks cn_ranks;

enum { CN_RANKS_NAME_BYTES = 160 };

/* Joins the processes that mpirun (or srun) started with this one; CN_EINVAL in a build without
 * MPI. Once in a process: MPI can't begin again after its end. The process keeps its handlers of
 * the signals that ask it to stop, whatever MPI's plug-ins load. */
cn_status cn_ranks_open(cn_ctx *ctx, cn_ranks **out) CN_CHECKED;
/* ok: all ranks end here together. Else MPI isn't ended in order, and mpirun ends the others. */
void cn_ranks_close(cn_ranks *r, bool ok);
int cn_ranks_rank(const cn_ranks *r);  /* 0.. */
int cn_ranks_count(const cn_ranks *r); /* 1.. */
/* Whether this rank is the first of those alive: one line about what happened suffices. */
bool cn_ranks_reports(const cn_ranks *r);
/* Whether a rank was seen to have died. */
bool cn_ranks_lost(const cn_ranks *r);
/* "rank 1 of 4 (process 4711 on HOST)" */
void cn_ranks_describe(const cn_ranks *r, int rank, char out[CN_RANKS_NAME_BYTES]);

/* The sum of every rank's values, in place. */
cn_status cn_ranks_sum(cn_ranks *r, double *values, int n) CN_CHECKED;
/* CN_OK when every rank brings CN_OK. Else each gets a failure: its own, or, without a message, of
 * another. */
cn_status cn_ranks_agree(cn_ranks *r, cn_status mine) CN_CHECKED;

/* Begins to sum n values of all ranks into owner's; to copy owner's to all. They run on until
 * cn_ranks_finish; cn_ranks_advance gives them a push between other work. At most
 * CN_RANKS_FLIGHT_BYTES are on their way at once: beyond that, beginning waits. */
cn_status cn_ranks_begin_sum(cn_ranks *r, float *x, int64_t n, int owner) CN_CHECKED;
cn_status cn_ranks_begin_copy(cn_ranks *r, void *x, size_t bytes, int owner) CN_CHECKED;
cn_status cn_ranks_advance(cn_ranks *r) CN_CHECKED;
cn_status cn_ranks_finish(cn_ranks *r) CN_CHECKED;

enum { CN_RANKS_FLIGHT_BYTES = 64 << 20 };

#endif
