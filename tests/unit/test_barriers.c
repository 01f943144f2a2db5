/* SPDX-License-Identifier: Apache-2.0 */
/* test_barriers.c - the barriers in recorded work, against what its kernels are really given.
 *
 * What a kernel touches is read from the addresses in its arguments, not from what its step said of
 * itself, and what of that is written from the plan. So a step that forgets to say what it reads is
 * found, as is a barrier too many. Skipped without a device.
 */
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu_ops.h"
#include "graph/plan.h"
#include "model/checkpoint/weights.h"

#include <string.h>

enum { MOST = 8192, TOUCHED = 12 };

typedef struct range {
    const char *from, *to;
    VkDeviceAddress at;
    bool writes;
} range;

/* A barrier, or a kernel of a step. */
typedef struct event {
    bool barrier;
    int step, n;
    const char *op;
    range touched[TOUCHED];
} event;

static cn_backend *be; /* NULL: there is no device */
static event events[MOST];
static int n_events, n_steps, n_ranges, strangers;
static range ranges[32];
static const char *op_now;
static VkDeviceAddress arguments[16];
static size_t n_arguments;

static PFN_vkCmdPipelineBarrier real_barrier;
static PFN_vkCmdPushConstants real_push;
static PFN_vkCmdDispatch real_dispatch;
static cn_status (*real_run)(cn_backend *b, cn_ctx *c, const cn_step *st);

/* --- what is recorded ------------------------------------------------------------------------- */

static VKAPI_ATTR void VKAPI_CALL note_barrier(
    VkCommandBuffer to, VkPipelineStageFlags from_stages, VkPipelineStageFlags to_stages,
    VkDependencyFlags flags, uint32_t n, const VkMemoryBarrier *memory, uint32_t n_buffers,
    const VkBufferMemoryBarrier *buffers, uint32_t n_images, const VkImageMemoryBarrier *images)
{
    if (n_events < MOST) events[n_events++] = (event){.barrier = true};
    real_barrier(to, from_stages, to_stages, flags, n, memory, n_buffers, buffers, n_images,
                 images);
}

static VKAPI_ATTR void VKAPI_CALL note_push(VkCommandBuffer to, VkPipelineLayout layout,
                                            VkShaderStageFlags stages, uint32_t at, uint32_t bytes,
                                            const void *values)
{
    n_arguments = bytes / sizeof *arguments;
    memcpy(arguments, values, n_arguments * sizeof *arguments);
    real_push(to, layout, stages, at, bytes, values);
}

/* Whether it is an address of the device's memory at all. */
static bool is_address(VkDeviceAddress a)
{
    const cn_vk_queue *q = &((gpu_backend *)be)->queue;
    for (int i = 0; i < q->n_ranges; i++)
        for (int k = 0; k < q->ranges[i].n_chunks; k++) {
            const cn_vk_chunk *c = &q->ranges[i].chunks[k];
            if (c->buffer && a >= c->address && a < c->address + c->taken) return true;
        }
    return false;
}

static VKAPI_ATTR void VKAPI_CALL note_dispatch(VkCommandBuffer to, uint32_t x, uint32_t y,
                                                uint32_t z)
{
    event e = {.step = n_steps, .op = op_now};
    for (size_t i = 0; i < n_arguments; i++) {
        bool known = false;
        for (int k = 0; k < n_ranges; k++) {
            const range *r = &ranges[k];
            if (arguments[i] < r->at || arguments[i] >= r->at + (size_t)(r->to - r->from)) continue;
            known = true;
            if (e.n < TOUCHED) e.touched[e.n++] = *r;
        }
        strangers += !known && is_address(arguments[i]);
    }
    if (n_events < MOST) events[n_events++] = e;
    real_dispatch(to, x, y, z);
}

static void add_range(const void *at, size_t bytes, bool writes)
{
    if (!at || !bytes || n_ranges == CN_COUNT(ranges)) return;
    range *r = &ranges[n_ranges++];
    *r = (range){.from = at, .to = (const char *)at + bytes, .writes = writes};
    must(cn_vk_address(ctx, &((gpu_backend *)be)->queue, at, &r->at));
}

static size_t bytes_of(const cn_node *x)
{
    while (x->op == CN_OP_VIEW) x = x->in[0];
    return x->op == CN_OP_PARAM ? x->param->data_bytes
                                : (size_t)cn_node_elements(x) * cn_dtype_bytes(x->dtype);
}

static cn_status note_run(cn_backend *b, cn_ctx *c, const cn_step *st)
{
    const cn_node *y = st->node;
    n_ranges = 0;
    n_steps++;
    op_now = cn_op_name(y->op);
    for (int i = 0; i < y->n_in; i++)
        if (y->in[i]) add_range(st->in[i], bytes_of(y->in[i]), false);
    if (st->residual) add_range(st->residual_data, bytes_of(st->residual), false);
    if (st->shift) add_range(st->shift_data, bytes_of(st->shift), false);
    for (int i = 0; i < CN_MAX_AUX; i++)
        if (y->aux[i]) add_range(st->aux[i], bytes_of(y->aux[i]), true);
    add_range(st->out, st->out_bytes, true);
    add_range(st->scratch, st->scratch_bytes, true);
    return real_run(b, c, st);
}

static void watch_recording(void)
{
    cn_vk *vk = &((gpu_backend *)be)->queue.d.vk;
    real_barrier = vk->CmdPipelineBarrier;
    real_push = vk->CmdPushConstants;
    real_dispatch = vk->CmdDispatch;
    real_run = be->run;
    vk->CmdPipelineBarrier = note_barrier;
    vk->CmdPushConstants = note_push;
    vk->CmdDispatch = note_dispatch;
    be->run = note_run;
}

/* --- the check -------------------------------------------------------------------------------- */

static bool conflict(const event *a, const event *b)
{
    for (int i = 0; i < a->n; i++)
        for (int k = 0; k < b->n; k++) {
            const range *r = &a->touched[i], *o = &b->touched[k];
            if ((r->writes || o->writes) && r->from < o->to && o->from < r->to) return true;
        }
    return false;
}

/* The first of two kernels of different steps that have no barrier between them though the later
 * one touches what the earlier one writes, or writes what it touches; -1: none. */
static int find_hazard(void)
{
    for (int i = 0; i < n_events; i++)
        for (int k = i - 1; k >= 0 && !events[i].barrier && !events[k].barrier; k--)
            if (events[k].step != events[i].step && conflict(&events[k], &events[i])) return k;
    return -1;
}

/* Whether the kernel behind barrier b has to wait for one since the barrier before. Of kernels of
 * one step it isn't known which writes what they share: any may. */
static bool is_needed(int b)
{
    for (int k = b - 1; k >= 0 && !events[k].barrier; k--)
        if (conflict(&events[k], &events[b + 1])) return true;
    return false;
}

/* --- a network that has most kinds of steps --------------------------------------------------- */

enum { SIDE = 8, C = 32 };

static cn_node *transformer(cn_graph *g, cn_node *x)
{
    cn_node *t = cn_view(g, x, 3, (int64_t[]){2, SIDE * SIDE, C});
    cn_node *h = cn_layer_norm(g, "norm1", t, 1e-5f);
    cn_node *y = cn_attention(g, cn_linear(g, "q", h, C, false), cn_linear(g, "k", h, C, false),
                              cn_linear(g, "v", h, C, false), 2, false, 0);
    t = cn_add(g, t, cn_linear(g, "to_out", y, C, true));
    h = cn_geglu(g, cn_linear(g, "ff1", cn_layer_norm(g, "norm2", t, 1e-5f), 4 * C, true));
    t = cn_add(g, t, cn_linear(g, "ff2", h, C, true));
    return cn_view(g, t, 4, (int64_t[]){2, SIDE, SIDE, C});
}

static cn_node *network(cn_graph *g, cn_node *x, cn_node *t)
{
    cn_node *e = cn_silu(g, cn_linear(g, "time", cn_timestep_embedding(g, t, C), C, true));
    cn_node *first = cn_conv2d(g, "first", x, C, 3, 1, 1);
    cn_node *h = cn_group_norm(g, "norm", first, 4, 1e-5f, CN_ACT_SILU);
    h = cn_add_channel(g, cn_conv2d(g, "conv1", h, C, 3, 1, 1), cn_linear(g, "emb", e, C, true));
    h = cn_add(g, first, cn_conv2d(g, "conv2", cn_silu(g, h), C, 3, 1, 1));
    h = transformer(g, h);
    cn_node *down = cn_conv2d(g, "down", h, 2 * C, 3, 2, 1);
    h = cn_concat(g, cn_upsample2(g, down), h);
    return cn_conv2d(g, "last", cn_group_norm(g, "out", h, 4, 1e-5f, CN_ACT_SILU), 4, 3, 1, 1);
}

static void every_hazard_has_its_barrier(void **state)
{
    (void)state;
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    float x[2 * SIDE * SIDE * 4], t[2] = {3, 700};
    if (!be) skip();
    must(cn_params_create(ctx, "net", &params));
    cn_params_set_trainable(params, true);
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, params);
    cn_node *in = cn_input4(g, "x", 2, SIDE, SIDE, 4);
    cn_node *time = cn_input(g, "t", CN_F32, 1, (int64_t[]){2}, false);
    cn_node *target = cn_input4(g, "target", 2, SIDE, SIDE, 4);
    cn_node *loss = cn_loss_node(g, CN_LOSS_MSE, network(g, in, time), target);
    must(cn_graph_backward(g, loss));
    must(cn_plan_create(ctx, g, be, &loss, 1, true, &plan));
    must(cn_params_allocate(be, params));
    must(cn_params_init(ctx, be, params, 1));
    cn_seed_tensor("x", 0, 1, x, CN_COUNT(x));
    must(cn_plan_set(plan, in, x));
    must(cn_plan_set(plan, target, x));
    must(cn_plan_set(plan, time, t));
    watch_recording();
    must(cn_plan_run(plan));
    int barriers = 0, kernels = 0, needless = 0;
    for (int i = 0; i < n_events; i++) {
        barriers += events[i].barrier;
        kernels += !events[i].barrier;
    }
    print_message("%d steps, %d kernels, %d barriers\n", n_steps, kernels, barriers);
    assert_true(n_events < MOST && n_steps > 60 && kernels >= n_steps);
    assert_int_equal(strangers, 0);
    const int bad = find_hazard();
    if (bad >= 0) fail_msg("%s is followed by one that must wait for it", events[bad].op);
    for (int i = 0; i + 1 < n_events; i++)
        if (events[i].barrier && !events[i + 1].barrier) needless += !is_needed(i);
    assert_true(barriers < kernels);
    assert_in_range(needless, 0, 4);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(params);
}

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0) return -1;
    if (cn_backend_create(ctx, "vulkan", &be) != CN_OK) print_message("SKIP %s\n", cn_error(ctx));
    return 0;
}

static int tear_down(void **state)
{
    if (be) be->destroy(be);
    return unit_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_hazard_has_its_barrier)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
