/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_check.c - see annotator_check.h. */
#include "annotator_check.h"

#include "device/device.h"
#include "seeded_file.h"
#include "values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void case_result(tally *t, const char *folder, const char *name, bool ok, const char *why)
{
    if (ok) {
        t->passed++;
        return;
    }
    t->failed++;
    printf("FAIL %s %s: %s\n", folder, name, why);
}

json_t *case_list(cn_ctx *ctx, const char *root, const char *folder, tally *t)
{
    char path[CASE_PATH];
    json_t *json = NULL;
    if (cn_format(ctx, path, sizeof path, "%s/%s/cases.json", root, folder) != CN_OK ||
        cn_json_load_file(ctx, path, &json) != CN_OK)
        case_result(t, folder, "cases.json", false, cn_error(ctx));
    return json;
}

cn_status case_path(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                    char path[CASE_PATH])
{
    const char *name;
    CN_TRY(cn_json_need_str(ctx, c, key, &name));
    return cn_format(ctx, path, CASE_PATH, "%s/%s", root, name);
}

cn_status case_picture(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                       cn_image **out)
{
    char path[CASE_PATH];
    CN_TRY(case_path(ctx, root, c, key, path));
    return cn_image_load(ctx, path, out);
}

cn_status case_json(cn_ctx *ctx, const char *root, const json_t *c, const char *key, json_t **out)
{
    char path[CASE_PATH];
    CN_TRY(case_path(ctx, root, c, key, path));
    return cn_json_load_file(ctx, path, out);
}

cn_status case_tensors(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                       cn_tensors **out)
{
    char path[CASE_PATH];
    CN_TRY(case_path(ctx, root, c, key, path));
    return cn_tensors_open(ctx, path, out);
}

/* Pixels of which a byte differs by more than `level`; -1 when the sizes differ. */
static int64_t count_differing(const cn_image *a, const cn_image *b, int level)
{
    if (a->width != b->width || a->height != b->height) return -1;
    int64_t n = 0;
    for (int64_t i = 0; i < a->width * a->height; i++) {
        bool far = false;
        for (int c = 0; c < 3; c++) far |= abs(a->rgb[3 * i + c] - b->rgb[3 * i + c]) > level;
        n += far;
    }
    return n;
}

void case_compare_within(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                         const char *folder, const cn_image *made, int level, double share,
                         tally *t)
{
    const char *name = cn_json_str(c, key, "?");
    cn_image *wanted = NULL;
    if (case_picture(ctx, root, c, key, &wanted) != CN_OK) {
        case_result(t, folder, name, false, cn_error(ctx));
        return;
    }
    char why[160];
    const int64_t n = count_differing(made, wanted, level), all = made->width * made->height;
    if (n < 0)
        snprintf(why, sizeof why, "%lldx%lld, expected %lldx%lld", (long long)made->width,
                 (long long)made->height, (long long)wanted->width, (long long)wanted->height);
    else
        snprintf(why, sizeof why, "%lld of %lld pixels differ by more than %d", (long long)n,
                 (long long)all, level);
    case_result(t, folder, name, n >= 0 && (double)n <= share * (double)all, why);
    cn_image_destroy(wanted);
}

void case_compare(cn_ctx *ctx, const char *root, const json_t *c, const char *key,
                  const char *folder, const cn_image *made, tally *t)
{
    case_compare_within(ctx, root, c, key, folder, made, 0, 0, t);
}

/* --- networks --------------------------------------------------------------------------------- */

static cn_status write_seeded(cn_ctx *ctx, const json_t *manifest, case_weights *out)
{
    const char *dir = getenv("TMPDIR");
    CN_TRY(cn_format(ctx, out->path, sizeof out->path, "%s/cn-weights-XXXXXX", dir ? dir : "/tmp"));
    const int fd = mkstemp(out->path);
    if (fd < 0) return cn_fail(ctx, CN_EIO, "no temporary file %s", out->path);
    close(fd);
    out->temporary = true;
    return seeded_file_write(ctx, manifest, "", CN_F32, out->path);
}

cn_status case_weights_open(cn_ctx *ctx, const char *root, const json_t *c, case_weights *out)
{
    json_t *manifest = NULL;
    out->temporary = false;
    if (!json_object_get(c, "manifest")) return case_path(ctx, root, c, "weights", out->path);
    CN_TRY(case_json(ctx, root, c, "manifest", &manifest));
    cn_status s = write_seeded(ctx, manifest, out);
    if (s != CN_OK) case_weights_close(out);
    json_decref(manifest);
    return s;
}

void case_weights_close(case_weights *w)
{
    if (w->temporary) unlink(w->path);
    w->temporary = false;
}

static cn_status add_taps(case_net *n, const char *const *taps)
{
    for (int i = 0; taps && taps[i]; i++) {
        cn_node *y = i < CASE_TAPS ? cn_graph_tap(n->graph, n->net->name, taps[i]) : NULL;
        if (!y)
            return cn_fail(n->ctx, CN_EINVAL, "%s has no result called %s", n->net->name, taps[i]);
        n->out[n->n + i] = y;
    }
    return CN_OK;
}

static int count_outputs(cn_node *const *out)
{
    int n = 0;
    while (n < CN_NETWORK_OUTPUTS + CASE_TAPS && out[n]) n++;
    return n;
}

cn_status case_net_open(cn_ctx *ctx, const cn_network *net, const char *weights, int64_t H,
                        int64_t W, const char *const *taps, case_net *out)
{
    case_net n = {.ctx = ctx, .net = net};
    cn_tensors *file = NULL;
    cn_status s = cn_tensors_open(ctx, weights, &file);
    if (s == CN_OK) s = cn_backend_create(ctx, getenv("CN_DEVICE"), &n.backend);
    if (s == CN_OK) s = cn_params_create(ctx, net->name, &n.params);
    if (s == CN_OK) s = cn_graph_create(ctx, &n.graph);
    if (s == CN_OK) {
        cn_graph_use(n.graph, n.params);
        n.x = cn_input4(n.graph, "x", 1, H, W, net->channels);
        net->build(n.graph, n.x, n.out);
        s = cn_graph_status(n.graph);
    }
    n.n = count_outputs(n.out);
    if (s == CN_OK) s = add_taps(&n, taps);
    if (s == CN_OK)
        s = cn_plan_create(ctx, n.graph, n.backend, n.out, count_outputs(n.out), false, &n.plan);
    if (s == CN_OK) s = cn_network_load(ctx, net, file, weights, n.backend, n.params);
    cn_tensors_close(file);
    *out = n;
    if (s != CN_OK) case_net_close(out);
    return s;
}

void case_net_close(case_net *n)
{
    cn_plan_destroy(n->plan);
    cn_graph_destroy(n->graph);
    cn_params_destroy(n->params);
    if (n->backend) n->backend->destroy(n->backend);
    *n = (case_net){0};
}

cn_status case_net_run(case_net *n, const float *x)
{
    CN_TRY(cn_plan_set(n->plan, n->x, x));
    return cn_plan_run(n->plan);
}

/* What the file wants of y as [C,H,W]; sets *C. NULL when it isn't of y's size. */
static const cn_tensor_info *wanted(const cn_tensors *file, const char *key, const cn_node *y,
                                    int64_t *C)
{
    const cn_tensor_info *want = cn_tensors_find(file, key);
    const int64_t pixels = y->shape[1] * y->shape[2];
    if (!want || want->elements % pixels) return NULL;
    *C = want->elements / pixels;
    return *C >= 1 && *C <= cn_channels(y) && want->shape[want->ndim - 1] == y->shape[2] ? want
                                                                                         : NULL;
}

void case_net_expect(case_net *n, const cn_node *y, const cn_tensors *file, const char *key,
                     double tolerance, bool of_std, const char *folder, const char *name, tally *t)
{
    char why[200] = "the tensor is missing or of another size";
    int64_t C = 0;
    const cn_tensor_info *info = wanted(file, key, y, &C);
    bool ok = false;
    if (info) {
        const int64_t pixels = info->elements / C, all = cn_channels(y);
        float *want = test_alloc((size_t)info->elements * sizeof *want);
        float *made = test_alloc((size_t)cn_node_elements(y) * sizeof *made);
        double worst = 0, sum = 0, squares = 0;
        ok = cn_tensors_read(n->ctx, file, info, want) == CN_OK && cn_plan_get(n->plan, y, made);
        for (int64_t i = 0; ok && i < info->elements; i++) {
            const double v = want[i], d = fabs(v - made[i % pixels * all + i / pixels]);
            worst = d > worst || isnan(d) ? d : worst;
            sum += v;
            squares += v * v;
        }
        const double mean = sum / (double)info->elements,
                     limit = tolerance *
                             (of_std ? sqrt(squares / (double)info->elements - mean * mean) : 1);
        snprintf(why, sizeof why, "%s differs by %g, limit %g", key, worst, limit);
        ok = ok && worst <= limit;
        free(want);
        free(made);
    }
    case_result(t, folder, name, ok, why);
}

cn_status case_annotate(cn_ctx *ctx, const char *settings, const char *weights, const cn_image *in,
                        cn_image **out)
{
    const cn_annotate_options o = {.detect_resolution = -1,
                                   .weights = (const char *const[]){weights, NULL}};
    return cn_annotate_image(ctx, settings, &o, in, out);
}
