/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the seam between graphs and the kernels that run them.
 *
 * For each node of a plan the backend prepares a step once (primitives, scratch size, layouts) and
 * runs it any number of times on the pointers that the plan fixed. Kernels don't allocate or print.
 * Memory of parameters and arenas is the backend's too (`addressable`).
 */
#ifndef CN_BACKEND_H
#define CN_BACKEND_H

#include "base/quant8.h"
#include "graph/graph.h"

typedef struct cn_backend cn_backend;

/* A step runs a node's kernel. The plan may fuse the sums that follow a convolution or linear
 * layer, and a ReLU behind them, into it: the step then writes act(node's value + residual + shift)
 * as `result`; residual and shift may be NULL. */
typedef struct cn_step {
    cn_node *node;
    cn_node *result;   /* whose bytes are written: node, or the last of what is fused */
    cn_node *residual; /* of result's size and type */
    cn_node *shift;    /* [N,C], added at every position */
    cn_act act;        /* of the sum: ReLU, ReLU6 or leaky ReLU, or none */
    float act_alpha;
    const void *in[CN_MAX_INPUTS];
    const void *residual_data, *shift_data;
    void *out;
    void *aux[CN_MAX_AUX];
    void *scratch;
    /* set by prepare */
    size_t out_bytes; /* preset to elements * element size; a parameter's gradient may be padded */
    size_t scratch_bytes;
    void *state;
    double flops;
    /* statistics under CN_PROFILE */
    double seconds;
    int64_t runs;
} cn_step;

/* One of Adam's two running means, in elements of F32 or, where codes aren't NULL, in a byte each
 * with one scale (the largest magnitude) per CN_QUANT8_BLOCK elements. */
typedef struct cn_moment {
    float *f32;
    uint8_t *codes;
    float *scales;
    const cn_quant8 *map;
} cn_moment;

/* One AdamW step over n elements (decoupled decay, as torch.optim.AdamW): g = grad * grad_scale;
 * correct1 = 1 - beta1^step, correct2 = 1 - beta2^step. Both moments are kept alike. */
typedef struct cn_adamw_step {
    float *weights;
    const float *grad;
    cn_moment m, v;
    int64_t n;
    float grad_scale, lr, beta1, beta2, eps, decay, correct1, correct2;
} cn_adamw_step;

/* Of a backend's own memory. */
typedef struct cn_backend_memory {
    size_t total, free; /* what there is, and may be taken now */
    size_t own;         /* what the backend takes for itself, once all of it was used */
    size_t taken, most; /* by this program, now and at most */
} cn_backend_memory;

typedef struct cn_floats {
    const float *x;
    int64_t n;
} cn_floats;

struct cn_backend {
    const char *name;
    /* The memory that kernels compute in is the host's, so values can be put in and looked at where
     * they lie. Otherwise its addresses mean something to the functions below alone, and are no
     * others' either: they may be added to, and reading one is a fault. */
    bool addressable;
    /* No value may lie across a multiple of it in reserved memory, and an allocation is no larger;
     * 0: no limit. */
    size_t limit;
    /* Of memory that isn't the host's; zeros where it is. */
    void (*memory)(cn_backend *b, cn_backend_memory *out);
    /* Memory whose values stay until it is freed; NULL with a message where there is none. */
    void *(*alloc)(cn_backend *b, cn_ctx *ctx, size_t bytes);
    void (*free)(cn_backend *b, void *at, size_t bytes);
    /* Addresses whose memory is taken when it is first used. drop: the memory goes, with its
     * values; the addresses stay. */
    void *(*reserve)(cn_backend *b, cn_ctx *ctx, size_t bytes);
    void (*drop)(cn_backend *b, void *at, size_t bytes);
    void (*release_reserved)(cn_backend *b, void *at, size_t bytes);
    /* From the host's memory and to it; behind a read everything that was run before has ended. */
    cn_status (*write)(cn_backend *b, cn_ctx *ctx, void *to, const void *from, size_t bytes);
    cn_status (*read)(cn_backend *b, cn_ctx *ctx, void *to, const void *from, size_t bytes);
    /* Between two places of the backend's memory that don't overlap. */
    cn_status (*copy)(cn_backend *b, cn_ctx *ctx, void *to, const void *from, size_t bytes);
    /* Waits until all that was run has ended; what failed of it is told here. */
    cn_status (*finish)(cn_backend *b, cn_ctx *ctx);
    cn_status (*prepare)(cn_backend *b, cn_ctx *ctx, cn_step *step);
    cn_status (*run)(cn_backend *b, cn_ctx *ctx, const cn_step *step);
    void (*release)(cn_backend *b, cn_step *step);
    /* NULL where running steps again costs no more than what they compute. Steps that are run
     * between record and recorded are kept in *kept (NULL: nothing yet; forget frees it), together
     * with `key`. Where it has them already, for the same key and with nothing moved since, they
     * are run from there: *replayed, and none is to be run. */
    cn_status (*record)(cn_backend *b, cn_ctx *ctx, void **kept, uint32_t key, bool *replayed);
    /* ran: whether all were; else nothing is kept. */
    cn_status (*recorded)(cn_backend *b, cn_ctx *ctx, bool ran);
    void (*forget)(cn_backend *b, void *kept);
    /* Between the published layout, elements of `plain_type` (F32, F16, BF16; any alignment) or
     * floats, and the parameter's physical one in elements of `dtype` (cn_param_physical of them):
     * the parameter itself, its gradient, an optimizer's state. */
    cn_status (*from_plain)(cn_backend *b, cn_ctx *ctx, const cn_param *p, cn_dtype plain_type,
                            const void *plain, cn_dtype dtype, void *physical);
    cn_status (*to_plain)(cn_backend *b, cn_ctx *ctx, const cn_param *p, cn_dtype dtype,
                          const void *physical, float *plain);
    /* For the optimizer, element by element in the physical layout. Moments' codes have room for a
     * multiple of 4 bytes. */
    cn_status (*adamw)(cn_backend *b, cn_ctx *ctx, const cn_adamw_step *s);
    /* Of n arrays together, each one's added in their order; waits once. */
    cn_status (*sum_squares)(cn_backend *b, cn_ctx *ctx, const cn_floats *list, int64_t n,
                             double *out);
    cn_status (*accumulate)(cn_backend *b, cn_ctx *ctx, float *sum, const float *x, int64_t n);
    /* mean = keep * mean + (1 - keep) * x */
    cn_status (*average)(cn_backend *b, cn_ctx *ctx, float *mean, const float *x, float keep,
                         int64_t n);
    /* A matrix of the host's, row by row, towards the nearest one whose rows (columns, where it has
     * fewer) are orthonormal: five steps of Newton and Schulz's iteration as Muon takes them, which
     * leave singular values of 0.7 to 1.2. Zeros stay. NULL where this isn't to be had. */
    cn_status (*orthogonalize)(cn_backend *b, cn_ctx *ctx, float *x, int64_t rows, int64_t columns);
    cn_status (*exchange)(cn_backend *b, cn_ctx *ctx, float *x, float *y, int64_t n);
    /* Whether networks may compute in `type` here: the processor multiplies it. */
    bool (*computes)(cn_backend *b, cn_dtype type);
    /* From here on products round their operands to `type`, F32 or F16, and sum in F32; all that is
     * kept stays F32. False: not here. */
    bool (*multiply_in)(cn_backend *b, cn_dtype type);
    /* NULL: under CN_PROFILE each step is waited for, to be timed by the host's clock. Else what is
     * run from here on until the next call is timed by the backend's: when finish returns *seconds
     * has grown by what it took. NULL: nobody asks. */
    void (*time)(cn_backend *b, double *seconds);
    void (*destroy)(cn_backend *b);
};

/* Memory for all parameters of p that have none yet, as one block (or as few as the backend's limit
 * allows), whose few large pages are much sooner there than those of one block each. Best behind
 * the first plan, which chooses layouts. b outlives p. */
cn_status cn_params_allocate(cn_backend *b, cn_params *p) CN_CHECKED;
/* The parameter's values are in `data` from now on (from b->alloc, taken over); those it had go. */
void cn_param_give(cn_backend *b, cn_param *q, void *data);
/* A parameter's values, in the published layout. set allocates on the first call. */
cn_status cn_param_set(cn_backend *b, cn_ctx *ctx, cn_param *q, const float *plain) CN_CHECKED;
/* The same from elements of another type: F32, F16 or BF16, at any alignment. */
cn_status cn_param_set_from(cn_backend *b, cn_ctx *ctx, cn_param *q, cn_dtype type,
                            const void *plain) CN_CHECKED;
cn_status cn_param_get(cn_backend *b, cn_ctx *ctx, const cn_param *q, float *plain) CN_CHECKED;

#endif
