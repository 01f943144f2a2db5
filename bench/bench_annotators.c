/* SPDX-License-Identifier: Apache-2.0 */
/* bench_annotators.c - the annotators' networks and Canny, each on one picture of --px; see
 * bench.c.
 *
 * Networks have seeded weights: the time doesn't depend on them. What Canny has to do depends on
 * the picture, so it runs only with --picture.
 */
#include "bench.h"

#include "annotate/canny.h"
#include "annotate/midas.h"
#include "annotate/pose/openpose.h"

#include <string.h>
#include <strings.h>

static bool wanted(const bench *b, const char *name)
{
    return !b->only || strcasecmp(b->only, name) == 0;
}

/* The side of a network's picture for one of px: depth is found at three quarters of it, OpenPose
 * sees fixed sizes (half of its 368 pixels for a body, them for a hand, 384 for a face). */
static int64_t side_of(const cn_network *net, int64_t px)
{
    if (net == &cn_midas) return px * 3 / 4 / 32 * 32;
    return net == &cn_openpose_body   ? 184
           : net == &cn_openpose_hand ? 368
           : net == &cn_openpose_face ? 384
                                      : px;
}

static cn_status run_plan(void *user)
{
    return cn_plan_run(user);
}

static cn_status measure_network(bench *b, const cn_network *net)
{
    cn_params *params = NULL;
    cn_graph *graph = NULL;
    cn_plan *plan = NULL;
    cn_node *out[CN_NETWORK_OUTPUTS] = {NULL};
    cn_plan_info info;
    bench_times times;
    int n_out = 0;
    const int64_t side = side_of(net, b->px);
    const size_t n = (size_t)(side * side * net->channels);
    float *x = cn_alloc_array(b->ctx, n, sizeof *x);
    cn_status s = x ? cn_params_create(b->ctx, net->name, &params) : CN_ENOMEM;
    if (s == CN_OK) bench_types(b, params);
    if (s == CN_OK) s = cn_graph_create(b->ctx, &graph);
    if (s == CN_OK) {
        cn_graph_use(graph, params);
        cn_node *in = cn_input4(graph, "x", 1, side, side, net->channels);
        net->build(graph, in, out);
        while (n_out < CN_NETWORK_OUTPUTS && out[n_out]) n_out++;
        s = cn_plan_create(b->ctx, graph, b->backend, out, n_out, false, &plan);
        cn_seed_tensor("picture", 0.5f, 0.5f, x, (int64_t)n);
        if (s == CN_OK) s = bench_fill(b, params);
        if (s == CN_OK) s = cn_plan_set(plan, in, x);
    }
    if (s == CN_OK) s = bench_measure(b, run_plan, plan, &times);
    if (s == CN_OK) {
        cn_plan_info_get(plan, &info);
        bench at = *b;
        at.px = side;
        bench_report(&at, net->name, &times, &info);
    }
    cn_plan_destroy(plan);
    cn_graph_destroy(graph);
    cn_params_destroy(params);
    cn_free(x);
    return s;
}

/* Networks that several kinds share come once. */
static bool came_before(const cn_network *net, int kind)
{
    for (int i = 0; i < kind; i++)
        for (int k = 0; k < CN_KIND_NETWORKS && cn_kind_at(i)->networks[k].net; k++)
            if (cn_kind_at(i)->networks[k].net->build == net->build) return true;
    return false;
}

typedef struct canny_work {
    cn_ctx *ctx;
    cn_image *in;
    uint8_t *edges;
} canny_work;

static cn_status run_canny(void *user)
{
    const canny_work *w = user;
    return cn_canny_u8(w->ctx, w->in->rgb, w->in->width, w->in->height, 3, 100, 200, false,
                       w->edges);
}

static cn_status measure_canny(bench *b)
{
    cn_image *picture = NULL;
    canny_work w = {.ctx = b->ctx};
    const cn_plan_info none = {0};
    bench_times times;
    CN_TRY(cn_image_load(b->ctx, b->picture, &picture));
    cn_status s = cn_image_resize_64(b->ctx, picture, b->px, &w.in);
    if (s == CN_OK &&
        !(w.edges = cn_alloc_array(b->ctx, (size_t)w.in->width, (size_t)w.in->height)))
        s = CN_ENOMEM;
    if (s == CN_OK) s = bench_measure(b, run_canny, &w, &times);
    if (s == CN_OK) bench_report(b, "Canny", &times, &none);
    cn_free(w.edges);
    cn_image_destroy(w.in);
    cn_image_destroy(picture);
    return s;
}

cn_status bench_annotators(bench *b)
{
    for (int i = 0; i < cn_kind_count(); i++)
        for (int k = 0; k < CN_KIND_NETWORKS && cn_kind_at(i)->networks[k].net; k++) {
            const cn_network *net = cn_kind_at(i)->networks[k].net;
            if (wanted(b, net->name) && !came_before(net, i)) CN_TRY(measure_network(b, net));
        }
    return b->picture && wanted(b, "Canny") ? measure_canny(b) : CN_OK;
}
