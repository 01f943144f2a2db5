/* SPDX-License-Identifier: Apache-2.0 */
/* graph.h - a network as a static graph: built once, then derived, planned and run.
 *
 *   build      cn_input, cn_conv2d, cn_group_norm, ... append nodes; a node has a shape from the
 *              start
 *   derive     cn_graph_backward appends the gradient of a scalar; only what a trainable parameter
 *              needs
 *   plan       cn_plan_create (plan.h) fixes every buffer's place before anything runs
 *   run        cn_plan_run; allocates nothing
 *
 * Shape letters: N batch, H W height and width, C channels (always innermost: NHWC), L tokens, D
 * head width, G groups, I O input and output features. Dimensions are int64_t.
 *
 * Errors stick: a builder given impossible shapes records one message in the graph and returns a
 * poisoned node, on which every further builder does nothing. cn_graph_status reports it.
 *
 * Names: every parameter has two, as the two published layouts of Stable Diffusion call it. A scope
 * or layer name is written "single-file|diffusers" ("in_layers.0|norm1"); without a bar both are
 * the same; an empty half adds no component. A parameter's name may end in "[i:n]": a file in that
 * layout holds it as the i-th of n equal parts, along the first dimension, of the tensor so called;
 * or in "[T]": it holds the transposed matrix.
 */
#ifndef CN_GRAPH_H
#define CN_GRAPH_H

#include "base/base.h"
#include "base/dtype.h"
#include "graph/op_list.h"

enum { CN_MAX_INPUTS = 6, CN_MAX_AUX = 2, CN_NAME_MAX = 192, CN_MAX_PARTS = 31 };

typedef struct cn_graph cn_graph;
typedef struct cn_node cn_node;
typedef struct cn_params cn_params;

#define CN_OP_VALUE(op, name) op,
typedef enum cn_op { CN_OP_STRUCTURE_LIST(CN_OP_VALUE) CN_OP_LIST(CN_OP_VALUE) CN_OP_COUNT } cn_op;
#undef CN_OP_VALUE

typedef enum cn_act {
    CN_ACT_NONE,
    CN_ACT_SILU,
    CN_ACT_GELU,
    CN_ACT_QUICK_GELU,
    CN_ACT_RELU,
    CN_ACT_RELU6,
    CN_ACT_LEAKY_RELU, /* below 0 times the node's alpha */
    CN_ACT_SIGMOID,
    CN_ACT_TANH
} cn_act;
/* Of a difference d: d^2, |d|, and two that are quadratic below c and linear above, as kohya's
 * scripts and diffusers have them: 2c (sqrt(d^2 + c^2) - c), and that without the factor c. */
typedef enum cn_loss { CN_LOSS_MSE, CN_LOSS_L1, CN_LOSS_HUBER, CN_LOSS_SMOOTH_L1 } cn_loss;

/* --- parameters (params.c) -------------------------------------------------------------------- */

typedef enum cn_init {
    CN_INIT_FAN_IN, /* uniform in +-1/sqrt(fan_in): torch's default for convolutions and linear
                       layers */
    CN_INIT_ZERO,
    CN_INIT_ONE,
    CN_INIT_NORMAL, /* deviation 0.02: embeddings */
    CN_INIT_GAUSS /* deviation sqrt(2/fan_in), biases 0: keeps a signal's size through SiLU or ReLU
                   */
} cn_init;

/* One weight tensor. `shape` is the published one (convolution O I kh kw, linear O I). `data` is in
 * `layout`, which the backend chose for its kernels (NULL: plain, as the file has it), in elements
 * of `dtype`: F32, or for locked weights F16, BF16 or Q8, which kernels that want another type get
 * expanded. */
typedef struct cn_param {
    char *ldm_name, *diffusers_name;
    const char *network; /* its set's */
    int ndim;
    int64_t shape[CN_MAX_DIMS];
    bool trainable;
    bool learns;    /* trained now or, in the set's part, later */
    bool ldm_conv;  /* the single-file layout writes this linear weight as a 1x1 convolution */
    bool loaded;    /* data holds values */
    cn_init init;   /* how training from scratch starts it */
    int64_t fan_in; /* of the weight (a bias has that of its weight) */
    cn_dtype dtype; /* how data is stored; a trainable parameter is F32 */
    void *data;     /* physical, data_bytes long */
    size_t data_bytes;
    bool shares;                /* data lies in its set's memory, else it is its own */
    struct cn_backend *backend; /* whose memory data is; NULL: none has been taken */
    void *layout;               /* the backend's description of the order; owned */
    size_t layout_bytes;
    int64_t laid_elements;      /* in that order, padding included */
    struct cn_derived *derived; /* how loading makes it of several tensors
                             (model/checkpoint/derived.h); owned; NULL: of one */
} cn_param;

/* The parameters of one network, declared by the builders that use them. */
cn_status cn_params_create(cn_ctx *ctx, const char *network, cn_params **out) CN_CHECKED;
void cn_params_destroy(cn_params *p);
const char *cn_params_network(const cn_params *p);
/* What traces and dumps call the network; without a label its name. Two ControlNets of one drawing
 * have labels of their own. */
cn_status cn_params_set_label(cn_params *p, const char *label) CN_CHECKED;
const char *cn_params_label(const cn_params *p);
/* Where the values come from, for messages: a file, what stands before the parameters' names in it,
 * and which of the two names it has. */
cn_status cn_params_set_source(cn_params *p, const char *path, const char *prefix,
                               bool diffusers) CN_CHECKED;
const char *cn_params_path(const cn_params *p); /* NULL: from no file */
/* A parameter's whole name in that file; without one its single-file name. */
void cn_params_name_in_file(const cn_params *p, const cn_param *q, char out[CN_NAME_MAX]);
int64_t cn_params_count(const cn_params *p);
/* Bytes that the values take or will take once planned. */
size_t cn_params_bytes(const cn_params *p);
cn_param *cn_params_at(const cn_params *p, int64_t i);
/* By either name; NULL if none. */
cn_param *cn_params_find(const cn_params *p, const char *name);
/* Of every parameter, those still to be declared included. What a graph derives follows from the
 * state at the time it is built. */
void cn_params_set_trainable(cn_params *p, bool trainable);
/* Limits that to the parameters whose diffusers name `part` accepts (NULL: all, at the start).
 * Those are kept in F32 while they are locked too, so that they can be trained later without being
 * read again. */
void cn_params_set_part(cn_params *p, bool (*part)(const char *diffusers_name));
/* The type in which the network computes, F32 (at the start) or BF16. Networks take and give
 * F32. In BF16 convolutions and linear layers read BF16 and sum in F32; what they write, the
 * sums of it (the residual stream), statistics, losses and parameter gradients stay F32, norms
 * write BF16. */
void cn_params_set_compute(cn_params *p, cn_dtype compute);
cn_dtype cn_params_compute(const cn_params *p);
cn_dtype cn_params_storage(const cn_params *p);
/* How the weights of locked layers that hold no values yet are kept: F32, F16, BF16 or Q8. Biases,
 * norms and tables stay F32, trainable parameters too. */
void cn_params_set_storage(cn_params *p, cn_dtype storage);
/* Low-rank changes of another network's weights (LoRA). A layer whose weight `base` has under the
 * same name by then computes with that weight, which is locked here, plus the product of two
 * narrow ones of its own: NAME.down [r,I] or [r,I,kh,kw], which starts at random, and NAME.up [O,r]
 * or [O,r,1,1], which starts at 0. Biases, norms and layers that the base hasn't are its own. */
typedef struct cn_low_rank {
    cn_params *base;
    int64_t rank; /* r, but at most the smaller side of the layer's matrix [O,I*kh*kw] */
    /* r of the layer that is so called in single files; 0: the former. NULL: always. */
    int64_t (*of)(const void *user, const char *ldm_name);
    const void *user;
} cn_low_rank;
/* For layers built from here on; both outlive the set. NULL: none. */
void cn_params_set_low_rank(cn_params *p, const cn_low_rank *low);
const cn_low_rank *cn_params_low_rank(const cn_params *p);
/* This weight, which may still have to be declared, stays F32 instead: it has values that the
 * storage type can't hold. */
cn_status cn_params_keep_f32(cn_params *p, const char *diffusers_name) CN_CHECKED;
int64_t cn_param_elements(const cn_param *q);
/* Elements in the physical layout, padding included. */
int64_t cn_param_physical(const cn_param *q);

/* --- the graph -------------------------------------------------------------------------------- */

struct cn_node {
    cn_graph *g;
    int id;
    cn_op op;
    cn_dtype dtype;
    int ndim;
    int64_t shape[CN_MAX_DIMS];
    cn_node *in[CN_MAX_INPUTS]; /* an absent optional input is NULL */
    int n_in;
    cn_node *aux[CN_MAX_AUX];   /* further results, NULL when nobody asked */
    cn_param *param;            /* CN_OP_PARAM; on *_DW and sums of them, whose gradient this is */
    const char *name;           /* scope path, single-file form, for traces */
    const char *diffusers_name; /* the same in diffusers' */
    const cn_params *set;       /* of the network it belongs to; NULL: none */
    int segment;                /* 0: none */
    int part;                   /* 0: none */
    bool needs_grad;
    bool stable; /* depends on stable inputs and locked parameters only: run once, kept */
    cn_node *grad;
    /* attributes; which ones count follows from op */
    int kernel_h, kernel_w, stride, dilation;
    int pad[4]; /* top, left, bottom, right */
    int groups, heads;
    bool causal, align_corners, reflect;
    float eps, alpha;
    cn_act act;
    cn_loss loss;
    int64_t offset; /* CN_OP_SLICE: first channel */
    int64_t
        wanted; /* CN_OP_CONV2D_DX: nobody reads the channels from this one on; 0: all are read */
};

cn_status cn_graph_create(cn_ctx *ctx, cn_graph **out) CN_CHECKED;
void cn_graph_destroy(cn_graph *g);
/* CN_OK, or the first builder's error (its message put into the context again). */
cn_status cn_graph_status(cn_graph *g) CN_CHECKED;
cn_ctx *cn_graph_ctx(const cn_graph *g);
int cn_graph_size(const cn_graph *g);
cn_node *cn_graph_node(const cn_graph *g, int id);

/* Group norms built from here on read statistics [N,groups,2] (mean, 1/deviation) from an input of
 * their own, in[3], and use them where the deviation is above 0; aux[0] gets x's own. So parts of a
 * picture can be normalised as the whole is. */
void cn_graph_share_stats(cn_graph *g);
bool cn_graph_shares_stats(const cn_graph *g);
/* Parameters declared from here on belong to p, and networks compute in its type. */
void cn_graph_use(cn_graph *g, cn_params *p);
/* Nodes built from here on belong to a part, 1 to CN_MAX_PARTS, that a plan can leave out of a run
 * (cn_plan_part); 0: to none. What a part gives may only go into a gate, whose factors are 0 while
 * it is left out. */
void cn_graph_part(cn_graph *g, int part);
void cn_scope_push(cn_graph *g, const char *name);
void cn_scope_pop(cn_graph *g);
/* Parameters and scopes of another network follow, in the midst of this one; its set is chosen by
 * cn_graph_use. *out: what cn_scope_resume goes back to, with the scope's whole names. */
typedef struct cn_scope_saved {
    char ldm[CN_NAME_MAX], diffusers[CN_NAME_MAX];
    cn_params *params;
} cn_scope_saved;
void cn_scope_suspend(cn_graph *g, cn_scope_saved *out);
void cn_scope_resume(cn_graph *g, const cn_scope_saved *saved);
/* The whole diffusers name that `name` has in the current scope; "" where it is too long. */
void cn_scope_name(const cn_graph *g, const char *name, char out[CN_NAME_MAX]);
/* Pops the scope and remembers y as its result, to be found by cn_graph_tap. Returns y. */
cn_node *cn_scope_return(cn_graph *g, cn_node *y);
/* The result of the scope with this diffusers path in the parameter set `network`; NULL if none. */
cn_node *cn_graph_tap(const cn_graph *g, const char *network, const char *diffusers_path);

/* A value given from outside before each run. stable: it changes seldom; what follows from stable
 * inputs alone is computed once per change (cn_plan_touch) and kept. dtype F32 or I32. */
cn_node *cn_input(cn_graph *g, const char *name, cn_dtype dtype, int ndim, const int64_t *shape,
                  bool stable);
cn_node *cn_input4(cn_graph *g, const char *name, int64_t N, int64_t H, int64_t W, int64_t C);
/* Declares (or finds) a parameter of the current set under the current scope. */
cn_node *cn_param_node(cn_graph *g, const char *name, int ndim, const int64_t *shape, cn_init init,
                       int64_t fan_in);

int64_t cn_channels(const cn_node *x);
int64_t cn_node_elements(const cn_node *x);
bool cn_node_is(const cn_node *x, cn_op op);

/* --- builders: layers with parameters. `name` scopes "weight" and "bias". --------------------- */

/* x [N,H,W,C] -> [N,H',W',O]; square kernel, symmetric padding. */
cn_node *cn_conv2d(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel, int stride,
                   int pad);
/* The same with padding top, left, bottom, right, and a choice of how training starts it. */
cn_node *cn_conv2d_ex(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel, int stride,
                      const int pad[4], cn_init init);
/* Any other convolution. O and the kernel must be given; stride, dilation and groups of 0 count as
 * 1. */
typedef struct cn_conv_spec {
    int64_t O;
    int kernel_h, kernel_w, stride, dilation, groups;
    int pad[4]; /* top, left, bottom, right */
    bool no_bias;
    cn_init init;
} cn_conv_spec;
cn_node *cn_convolution(cn_graph *g, const char *name, cn_node *x, const cn_conv_spec *spec);
/* Transposed convolution, weight [I,O,k,k]: x [N,h,w,I] -> [N,(h-1)*stride-2*pad+k+out_pad,...,O].
 * No gradient. */
cn_node *cn_conv_transpose2d(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel,
                             int stride, int pad, int out_pad);
/* x [...,I] -> [...,O]. */
cn_node *cn_linear(cn_graph *g, const char *name, cn_node *x, int64_t O, bool bias);
/* With bias; both start at 0. */
cn_node *cn_zero_linear(cn_graph *g, const char *name, cn_node *x, int64_t O);
/* The same where weight and bias don't stand under one name (OpenCLIP's in_proj_weight): both given
 * whole; bias NULL: none. */
cn_node *cn_linear_named(cn_graph *g, const char *weight, const char *bias, cn_node *x, int64_t O);
/* A linear layer that the single-file layout stores as a 1x1 convolution (the VAE's attention). */
cn_node *cn_linear_ldm_conv(cn_graph *g, const char *name, cn_node *x, int64_t O);
/* 1x1 convolution whose weight and bias start at 0 (the paper's zero convolution). x [N,H,W,C]. */
cn_node *cn_zero_conv(cn_graph *g, const char *name, cn_node *x, int64_t O);
/* x [N,H,W,C] or [N,L,C]; statistics over a group's channels and all positions; act on the
 * result. */
cn_node *cn_group_norm(cn_graph *g, const char *name, cn_node *x, int groups, float eps,
                       cn_act act);
cn_node *cn_layer_norm(cn_graph *g, const char *name, cn_node *x, float eps);
/* Each channel by its own mean and deviation over the positions; no parameters. No gradient. */
cn_node *cn_instance_norm(cn_graph *g, cn_node *x, float eps);
/* ids [N,L] I32 -> [N,L,C] from a table [V,C] called name.weight. */
cn_node *cn_embedding(cn_graph *g, const char *name, cn_node *ids, int64_t V, int64_t C);
/* x [N,L,C] + table[:L], table [rows,C]; `table` is its whole name. */
cn_node *cn_position_embedding(cn_graph *g, const char *table, cn_node *x, int64_t rows);
/* x [N,...] + a parameter of this shape, which has as many elements as a sample; `name` is its
 * whole name. */
cn_node *cn_add_parameter(cn_graph *g, const char *name, cn_node *x, int ndim,
                          const int64_t *shape);

/* --- builders: operations without parameters -------------------------------------------------- */

/* x in another type; x itself where it has it. Between F32 and BF16. */
cn_node *cn_cast(cn_graph *g, cn_node *x, cn_dtype dtype);
/* Layers built until the end compute in F32, whatever the network does: small ones at its borders,
 * whose rounding would go into everything. */
void cn_precise_begin(cn_graph *g);
void cn_precise_end(cn_graph *g);
/* The type in which the current parameters' network computes; F32 without any. */
cn_dtype cn_compute_type(const cn_graph *g);
/* x in the type in which the current parameters' network computes; NULL stays NULL. */
cn_node *cn_compute(cn_graph *g, cn_node *x);
/* A convolution or linear layer just built writes the network's computing type instead of F32:
 * where the value goes straight into an activation or attention. Returns y. */
cn_node *cn_output_compute_type(cn_graph *g, cn_node *y);
cn_node *cn_activation(cn_graph *g, cn_node *x, cn_act act);
cn_node *cn_leaky_relu(cn_graph *g, cn_node *x, float slope);
cn_node *cn_silu(cn_graph *g, cn_node *x);
/* x [...,2F] -> [...,F]: first half * gelu(second half), the exact (erf) GELU. */
cn_node *cn_geglu(cn_graph *g, cn_node *x);
cn_node *cn_add(cn_graph *g, cn_node *a, cn_node *b);
cn_node *cn_scale(cn_graph *g, cn_node *x, float alpha);
/* x [N,...,C] + e [N,C] at every position. */
cn_node *cn_add_channel(cn_graph *g, cn_node *x, cn_node *e);
/* a [N,...] where b [n,...] is added to its samples first .. first + n. */
cn_node *cn_add_samples(cn_graph *g, cn_node *a, cn_node *b, int64_t first);
/* x [N,...,C] * m [N,...,1]: each position by its own factor, which gets no gradient; of 0 it gives
 * 0, whatever x is. */
cn_node *cn_gate(cn_graph *g, cn_node *x, cn_node *m);
/* Channels of a, then those of b. */
cn_node *cn_concat(cn_graph *g, cn_node *a, cn_node *b);
/* Channels offset .. offset+count. */
cn_node *cn_slice(cn_graph *g, cn_node *x, int64_t offset, int64_t count);
cn_node *cn_view(cn_graph *g, cn_node *x, int ndim, const int64_t *shape);
/* [N,h,w,C] -> [N,H,W,C], nearest: row i comes from row floor(i * h / H). */
cn_node *cn_upsample_to(cn_graph *g, cn_node *x, int64_t H, int64_t W);
/* To twice the size. */
cn_node *cn_upsample2(cn_graph *g, cn_node *x);
/* Maximum over windows; pad (top, left, bottom, right) counts as -infinity. Sizes round down. No
 * gradient. */
cn_node *cn_max_pool(cn_graph *g, cn_node *x, int kernel, int stride, const int pad[4]);
/* [N,h,w,C] -> [N,H,W,C]: row i is the mean of rows floor(i*h/H) to ceil((i+1)*h/H). A gradient
 * where H divides h and W divides w. */
cn_node *cn_mean_pool_to(cn_graph *g, cn_node *x, int64_t H, int64_t W);
/* Bilinear to another size, as torch's interpolate. align_corners: corner pixels' centres stay in
 * place, else the picture's edges. No gradient. */
cn_node *cn_resize_to(cn_graph *g, cn_node *x, int64_t H, int64_t W, bool align_corners);
/* Rows and columns added (top, left, bottom, right), negative ones cut off: zeros, or with reflect
 * the picture mirrored about its edge pixels (dcb|abcd|cba). No gradient. */
cn_node *cn_pad(cn_graph *g, cn_node *x, const int pad[4], bool reflect);
/* q [N,L,h*D], k and v [N,M,h*D]: softmax(q k^T * scale) v per head; scale 0 means D^-1/2. */
cn_node *cn_attention(cn_graph *g, cn_node *q, cn_node *k, cn_node *v, int heads, bool causal,
                      float scale);
/* t [N] F32 -> [N,dim]: cos half, then sin half; frequencies exp(-ln(10000) i / (dim/2)). */
cn_node *cn_timestep_embedding(cn_graph *g, cn_node *t, int64_t dim);
/* Mean over all elements of a - b's loss (MSE or L1) -> [1]. Gradient for a only. */
cn_node *cn_loss_node(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b);
/* The same of any kind with each sample's weight and c (of HUBER and SMOOTH_L1) from an input per
 * [N,2]: the mean over samples of weight times the sample's mean. */
cn_node *cn_loss_weighted(cn_graph *g, cn_loss kind, cn_node *a, cn_node *b, cn_node *per);
/* moments [N,H,W,2C] (mean, log variance) -> mean over N of sum KL(N(mean,var) || N(0,1)), [1]. */
cn_node *cn_kl(cn_graph *g, cn_node *moments);
/* mean + exp(logvar/2) * noise -> [N,H,W,C]; log variance held to [-30,20]. */
cn_node *cn_gauss_sample(cn_graph *g, cn_node *moments, cn_node *noise);

/* --- segments: what gradient checkpointing forgets and computes again ------------------------- */

/* Nodes built until the end belong to a new segment; inside another one nothing changes. */
void cn_segment_begin(cn_graph *g);
void cn_segment_end(cn_graph *g);
/* Segments are numbered from 1. */
int cn_graph_segments(const cn_graph *g);
/* Before cn_graph_backward: of this segment no values are kept for the backward pass but those that
 * enter it; the pass computes the rest again. Results are the same bytes. */
void cn_graph_checkpoint(cn_graph *g, int segment);
/* The same for `count` segments, those first that free most bytes per operation computed again.
 * Returns how many segments there are whose values a backward pass would read. */
int cn_graph_checkpoint_best(cn_graph *g, int count);
bool cn_graph_checkpointed(const cn_graph *g, int segment);

/* --- gradients (grad.c) ----------------------------------------------------------------------- */

/* Appends d loss / d p for every trainable parameter that loss [1] depends on. */
cn_status cn_graph_backward(cn_graph *g, cn_node *loss) CN_CHECKED;
/* The same of the loss times `scale` [1], so that gradients in a short type don't vanish. */
cn_status cn_graph_backward_scaled(cn_graph *g, cn_node *loss, cn_node *scale) CN_CHECKED;
/* The gradient node of a parameter after cn_graph_backward, NULL if it has none. */
cn_node *cn_param_grad(const cn_graph *g, const cn_param *p);

/* --- for the op families (one file each beside graph.c) --------------------------------------- */

typedef struct cn_op_def {
    const char *name;
    void (*grad)(cn_graph *g, cn_node *y, cn_node *dy); /* NULL: no gradient flows through */
    int in_place; /* 1 + index of the input whose buffer the result may take; 0 none */
    /* Multiplications and additions of a forward pass; NULL: few for each element. */
    double (*flops)(const cn_node *y);
    bool product; /* sums in F32: may write another type, and what is added to its result itself */
} cn_op_def;
const cn_op_def *cn_op_def_of(cn_op op);
const char *cn_op_name(cn_op op);

cn_node *cn_emit(cn_graph *g, cn_op op, cn_dtype dtype, int ndim, const int64_t *shape, int n_in,
                 cn_node *const *in);
/* Shape and type of `like`. */
cn_node *cn_emit_like(cn_graph *g, cn_op op, const cn_node *like, int n_in, cn_node *const *in);
/* Asks y's kernel for its further result i. */
cn_node *cn_emit_aux(cn_graph *g, cn_node *y, int i, cn_dtype dtype, int ndim,
                     const int64_t *shape);
cn_node *cn_poison(cn_graph *g, const char *fmt, ...) CN_PRINTF(2, 3);
/* The same where memory is out. */
cn_node *cn_poison_memory(cn_graph *g, const char *fmt, ...) CN_PRINTF(2, 3);
bool cn_poisoned(const cn_graph *g);
/* y once more, reading `in` instead of its own inputs. */
cn_node *cn_emit_again(cn_graph *g, const cn_node *y, cn_node *const *in);
void cn_grad_add(cn_graph *g, cn_node *x, cn_node *dx);

#endif
