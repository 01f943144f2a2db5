/* SPDX-License-Identifier: Apache-2.0 */
/* attention_steps.c - attention steps. On bfloat16 where the processor multiplies that; elsewhere
 * the float32 kernels run on operands expanded to the start of the step's scratch, and results are
 * rounded. */
#include "cpu/cpu_ops.h"

enum { OPERANDS = 9 };

typedef struct operand {
    const cn_node *node;
    const void *in; /* what the kernel reads, or NULL */
    void *out;      /* what it writes, or NULL */
} operand;

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* Everything of the activations' type that a step reads and writes, in a fixed order. */
static int operands(const cn_step *st, operand o[OPERANDS])
{
    const cn_node *n = st->node;
    int count = 0, inputs = n->op == CN_OP_ATTENTION ? 3 : 5;
    for (int i = 0; i < inputs; i++) o[count++] = (operand){n->in[i], st->in[i], NULL};
    o[count++] = (operand){n, NULL, st->out};
    for (int i = 0; i < 2 && n->op == CN_OP_ATTENTION_GRAD; i++)
        if (n->aux[i]) o[count++] = (operand){n->aux[i], NULL, st->aux[i]};
    return count;
}

static cn_attention_args args_of(const cpu_backend *b, const cn_step *st)
{
    const cn_node *n = st->node;
    const bool grad = n->op == CN_OP_ATTENTION_GRAD;
    const int first = grad ? 1 : 0;
    const cn_node *q = n->in[first], *k = n->in[first + 1];
    cn_attention_args a = {.N = q->shape[0],
                           .L = q->shape[1],
                           .M = k->shape[1],
                           .D = cn_channels(q) / n->heads,
                           .heads = n->heads,
                           .causal = n->causal,
                           .scale = n->alpha,
                           .threads = b->threads,
                           .amx = b->bf16 == CN_BF16_AMX,
                           .q = st->in[first],
                           .k = st->in[first + 1],
                           .v = st->in[first + 2],
                           .scratch = st->scratch};
    if (!grad) {
        a.y = st->out;
        a.lse = st->aux[0];
        return a;
    }
    a.dy = st->in[0];
    a.y = (void *)(uintptr_t)st->in[4];
    a.lse = (float *)(uintptr_t)st->in[5];
    a.dq = st->out;
    a.dk = st->aux[0];
    a.dv = st->aux[1];
    return a;
}

static cn_status prepare(cpu_backend *b, cn_ctx *ctx, cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    const bool grad = n->op == CN_OP_ATTENTION_GRAD;
    const cn_node *q = n->in[grad ? 1 : 0], *k = n->in[grad ? 2 : 1];
    const int64_t D = cn_channels(q) / n->heads;
    st->scratch_bytes = cn_attention_scratch_bytes(q->shape[0], q->shape[1], k->shape[1], D,
                                                   n->heads, b->threads, grad);
    /* two products forward; scores, their gradient, and one per result backward */
    int products = grad ? 3 : 2;
    for (int i = 0; grad && i < 2; i++) products += n->aux[i] != NULL;
    st->flops = 2.0 * products * (double)cn_node_elements(q) * (double)k->shape[1] *
                (n->causal ? 0.5 : 1.0);
    if (n->dtype == CN_F32) return CN_OK;
    if (b->bf16) {
        const cn_attention_args a = args_of(b, st);
        st->scratch_bytes =
            grad ? cn_attention16_grad_scratch_bytes(&a) : cn_attention16_scratch_bytes(&a);
        return CN_OK;
    }
    operand o[OPERANDS];
    const int count = operands(st, o);
    for (int i = 0; i < count; i++)
        st->scratch_bytes += aligned((size_t)cn_node_elements(o[i].node) * sizeof(float));
    return CN_OK;
}

static void run_f32(cpu_backend *b, const cn_step *st)
{
    const cn_attention_args a = args_of(b, st);
    if (st->node->op == CN_OP_ATTENTION)
        b->k->attention(&a);
    else
        b->k->attention_grad(&a);
}

static cn_status run(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    if (st->node->dtype == CN_F32) {
        run_f32(b, st);
        return CN_OK;
    }
    if (b->bf16) {
        const cn_attention_args a = args_of(b, st);
        if (st->node->op == CN_OP_ATTENTION)
            cn_attention16(&a);
        else
            cn_attention16_grad(&a);
        return CN_OK;
    }
    operand o[OPERANDS];
    const int count = operands(st, o);
    cn_step wide = *st;
    char *at = st->scratch;
    int in = 0, aux = 0;
    for (int i = 0; i < count; i++) {
        const int64_t n = cn_node_elements(o[i].node);
        if (o[i].in) {
            b->k->convert(CN_BF16, o[i].in, CN_F32, at, n);
            wide.in[in++] = at;
        } else if (o[i].node == st->node) {
            wide.out = at;
        } else {
            while (!st->node->aux[aux]) aux++;
            wide.aux[aux++] = o[i].out ? at : NULL;
        }
        at += aligned((size_t)n * sizeof(float));
    }
    wide.scratch = at;
    run_f32(b, &wide);
    at = st->scratch;
    for (int i = 0; i < count; i++) {
        const int64_t n = cn_node_elements(o[i].node);
        if (o[i].out) b->k->convert(CN_F32, at, CN_BF16, o[i].out, n);
        at += aligned((size_t)n * sizeof(float));
    }
    return CN_OK;
}

const cn_cpu_op cn_cpu_attention = {prepare, run};
const cn_cpu_op cn_cpu_attention_grad = {prepare, run};
