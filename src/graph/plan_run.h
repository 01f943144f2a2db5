/* SPDX-License-Identifier: Apache-2.0 */
/* plan_run.h - what plan.c (making a plan) and run.c (running it) share. */
#ifndef CN_GRAPH_PLAN_RUN_H
#define CN_GRAPH_PLAN_RUN_H

#include "base/log.h"
#include "graph/plan.h"

/* What becomes of a node in the list of steps. */
typedef struct cn_fusion {
    cn_node *node; /* of a fused sum: the convolution or linear layer that writes it */
    cn_node *residual, *shift;
    const cn_node *act; /* the activation of the sum */
    bool absorbed;      /* written by nobody: its value goes on into a fused sum */
} cn_fusion;

typedef struct cn_buffer {
    size_t bytes, offset;
    int first, last; /* steps; last == number of steps: kept after the run */
    bool pinned;     /* kept from run to run */
    bool output;
} cn_buffer;

/* What the host sees of a buffer in a backend's own memory. */
typedef struct cn_host_copy {
    void *data;            /* owned; NULL: the host doesn't look at this buffer */
    const cn_param *param; /* behind the buffers': an output that is a parameter's view */
    size_t bytes;          /* of its values */
    bool input;
    bool fresh; /* an input that may have been written to since it went over */
} cn_host_copy;

struct cn_plan {
    cn_ctx *ctx;
    cn_graph *g;
    cn_backend *backend;
    int n_nodes, n_steps, n_stable, n_buffers;
    cn_step *steps;
    bool *needed;       /* by node id */
    cn_fusion *fusions; /* by node id */
    int *step_of;       /* by node id */
    int *buffer_of;     /* by node id, -1 none */
    int *scratch_of;    /* by step, -1 none */
    cn_buffer *buffers;
    char *arena;
    size_t arena_bytes;
    cn_host_copy *host; /* by buffer, of inputs and outputs, then of outputs that are parameters;
                           NULL: the arena is addressable */
    int n_host;
    cn_plan *lender; /* whose arena it is; NULL: its own */
    bool dirty;      /* stable steps must run again */
    void *kept[2];   /* by the backend, of runs without and with the stable steps */
    uint32_t off;    /* bit k: part k of the graph isn't run */
    bool complete;   /* every parameter was seen to be loaded */
    int64_t runs;    /* that ended, or are under way */
    cn_debug debug;
    cn_status (*watch)(void *user, int step); /* NULL: nobody does */
    void *watch_user;
};

int cn_plan_buffer(const cn_plan *p, const cn_node *x);
/* The parameter that x is, in whatever shape; NULL: it is another value. */
const cn_param *cn_plan_param(const cn_node *x);
/* Marks which sums are fused into the step before them (fuse.c). outputs: nodes whose own value is
 * wanted. */
cn_status cn_plan_fuse(cn_plan *p, cn_node *const *outputs, int n);
/* The steps that the backend keeps are of other pointers. */
void cn_plan_forget(cn_plan *p);
/* Turns offsets into the steps' pointers. */
void cn_plan_bind(cn_plan *p);

/* --- plan_host.c ------------------------------------------------------------------------------ */

/* Copies for the inputs and these outputs; nothing where the backend is addressable. */
cn_status cn_plan_host_create(cn_plan *p, cn_node *const *outputs, int n) CN_CHECKED;
void cn_plan_host_free(cn_plan *p);
/* The copy of buffer b or, where that is -1, of a parameter; NULL: there is none. An input's goes
 * over before the next run. */
void *cn_plan_host_data(cn_plan *p, int b, const cn_param *param);
/* All inputs go over again: the arena has lost them. */
void cn_plan_host_lost(cn_plan *p);
cn_status cn_plan_host_send(cn_plan *p) CN_CHECKED;
cn_status cn_plan_host_fetch(cn_plan *p) CN_CHECKED;
/* Values of y that lie at `at`: where they are or, read, in *held, which is the caller's (cn_free).
 */
cn_status cn_plan_host_look(const cn_plan *p, const cn_node *y, const void *at, void **held,
                            const void **values) CN_CHECKED;

/* --- plan_debug.c ----------------------------------------------------------------------------- */

/* Whether CN_DUMP asks for y's values. */
bool cn_plan_dumps(const cn_plan *p, const cn_node *y);
/* Writes the step's result as NETWORK.NAME.OP.RUN.npy into the working folder. */
cn_status cn_plan_dump(const cn_plan *p, const cn_step *st) CN_CHECKED;
/* A line of the log for a step that took so long. */
void cn_plan_trace(const cn_plan *p, const cn_step *st, double seconds);
/* CN_EFORMAT unless all values of the step's result are finite: names network, node and run. */
cn_status cn_plan_check_step(const cn_plan *p, const cn_step *st) CN_CHECKED;
/* The same for what goes into a run. */
cn_status cn_plan_check_inputs(const cn_plan *p) CN_CHECKED;
cn_status cn_plan_check_params(const cn_plan *p, bool only_locked) CN_CHECKED;

#endif
