/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - an annotator at work: its weight files opened and recognised, its networks planned
 * for the sizes of the pictures that come, pictures run one after another.
 *
 * A network's parameters are filled when its first plan exists, since the plan decides in which
 * order the kernels want them; then the file is closed. Plans of the last few sizes are kept, but
 * only the one in use holds memory.
 */
#include "annotate/network.h"

#include "image/resize.h"
#include "graph/plan.h"
#include "model/checkpoint/derived.h"

#include <string.h>

enum { PLANS = 4 };

typedef struct sized_plan {
    int64_t H, W;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *x, *out[CN_NETWORK_OUTPUTS];
    int n_out;
    int64_t used; /* when, counted in runs */
} sized_plan;

typedef struct loaded {
    const cn_network *net;
    int role;
    char path[CN_PATH_BYTES];
    cn_tensors *file; /* NULL once the parameters are filled */
    cn_params *params;
    sized_plan plans[PLANS];
    int64_t runs;
} loaded;

struct cn_session {
    cn_ctx *ctx;
    cn_annotate_args args;
    cn_backend *backend;
    int64_t width, height; /* of the condition that is being made */
    loaded nets[CN_KIND_NETWORKS];
    int n;
    cn_session_cost *rehearsal; /* networks are planned and told here, not run; NULL: they run */
};

/* --- opening ---------------------------------------------------------------------------------- */

/* "mlsd_tiny.pth (URL) or mlsd_large.pth (URL)": the files that can fill a role. */
static void describe_role(const cn_kind *kind, int role, cn_str *out)
{
    for (int k = 0; k < CN_KIND_NETWORKS && kind->networks[k].net; k++)
        if (kind->networks[k].role == role)
            cn_str_addf(out, "%s%s (%s)", out->len ? " or " : "", kind->networks[k].net->file,
                        kind->networks[k].net->url);
}

static cn_status missing(cn_ctx *ctx, const cn_kind *kind, int role, const char *where)
{
    cn_str files = {0};
    describe_role(kind, role, &files);
    cn_status s = cn_fail(ctx, CN_EINVAL, "%s%s needs its network's weights: %s", where, kind->name,
                          files.data ? files.data : "a file");
    cn_str_free(&files);
    return s;
}

static cn_status refuse(cn_ctx *ctx, const cn_kind *kind, const cn_tensors *file, const char *path)
{
    const cn_network *other = cn_network_of(file);
    const cn_content content = cn_content_of(file);
    const char *first = cn_tensors_count(file) ? cn_tensors_at(file, 0)->name : "nothing";
    cn_str files = {0};
    describe_role(kind, 0, &files);
    cn_str holds = {0};
    if (other)
        cn_str_addf(&holds, "the network %s", other->name);
    else if (content != CN_HOLDS_UNKNOWN)
        cn_str_adds(&holds, cn_content_name(content));
    else
        cn_str_addf(&holds, "no network known here (%s, ...)", first);
    cn_status s = cn_fail(ctx, CN_EMISMATCH, "%s: holds %s, %s takes %s", path,
                          holds.data ? holds.data : "another network", kind->name,
                          files.data ? files.data : "another");
    cn_str_free(&files);
    cn_str_free(&holds);
    return s;
}

static cn_status take(cn_session *s, const cn_network *net, int role, const char *path,
                      cn_tensors *file)
{
    for (int i = 0; i < s->n; i++)
        if (s->nets[i].role == role)
            return cn_fail(s->ctx, CN_EINVAL, "%s and %s: %s takes one of them", s->nets[i].path,
                           path, s->args.kind->name);
    loaded *l = &s->nets[s->n];
    CN_TRY(cn_format(s->ctx, l->path, sizeof l->path, "%s", path));
    CN_TRY(cn_params_create(s->ctx, net->name, &l->params));
    l->net = net;
    l->role = role;
    l->file = file;
    s->n++;
    return CN_OK;
}

static cn_status open_file(cn_session *s, const char *path)
{
    const cn_kind *kind = s->args.kind;
    const char *prefix;
    cn_tensors *file = NULL;
    CN_TRY(cn_tensors_open(s->ctx, path, &file));
    int k = 0;
    while (k < CN_KIND_NETWORKS && kind->networks[k].net &&
           !cn_network_is_in(kind->networks[k].net, file, &prefix))
        k++;
    cn_status status = k < CN_KIND_NETWORKS && kind->networks[k].net
                           ? take(s, kind->networks[k].net, kind->networks[k].role, path, file)
                           : refuse(s->ctx, kind, file, path);
    if (status != CN_OK) cn_tensors_close(file);
    return status;
}

/* The network's file in a folder, as published or converted: FILE, or its stem with .safetensors or
 * .bin. */
static bool find_in(const char *dir, const cn_network *net, char path[CN_PATH_BYTES])
{
    static const char *const endings[] = {NULL, ".safetensors", ".bin", ".pth", ".pt"};
    const char *dot = strrchr(net->file, '.');
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        int stem = endings[i] && dot ? (int)(dot - net->file) : (int)strlen(net->file);
        int n = snprintf(path, CN_PATH_BYTES, "%s/%.*s%s", dir, stem, net->file,
                         endings[i] ? endings[i] : "");
        if (n > 0 && n < CN_PATH_BYTES && cn_file_exists(path)) return true;
    }
    return false;
}

static cn_status open_folder(cn_session *s, const char *dir)
{
    const cn_kind *kind = s->args.kind;
    char path[CN_PATH_BYTES];
    for (int k = 0; k < CN_KIND_NETWORKS && kind->networks[k].net; k++)
        if (!cn_session_network(s, kind->networks[k].role) &&
            find_in(dir, kind->networks[k].net, path))
            CN_TRY(open_file(s, path));
    return CN_OK;
}

static cn_status open_weights(cn_session *s)
{
    const cn_kind *kind = s->args.kind;
    const char *const *w = s->args.weights;
    const bool any = w && *w;
    if (any && !kind->networks[0].net)
        return cn_fail(s->ctx, CN_EINVAL, "%s has no network: it takes no weights (%s)", kind->name,
                       *w);
    if (!kind->networks[0].net) return CN_OK;
    if (!s->backend) return cn_fail(s->ctx, CN_EINVAL, "%s can't run a network here", kind->name);
    for (; w && *w; w++) CN_TRY(cn_dir_exists(*w) ? open_folder(s, *w) : open_file(s, *w));
    if (cn_session_network(s, 0)) return CN_OK;
    char where[CN_PATH_BYTES] = "";
    if (any) CN_TRY(cn_format(s->ctx, where, sizeof where, "%s: ", w[-1]));
    return missing(s->ctx, kind, 0, where);
}

cn_status cn_session_open(cn_ctx *ctx, const cn_annotate_args *args, cn_backend *backend,
                          cn_session **out)
{
    cn_session *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    s->ctx = ctx;
    s->args = *args;
    s->backend = backend;
    cn_status status = open_weights(s);
    if (status != CN_OK) {
        cn_session_close(s);
        return status;
    }
    s->args.weights = NULL;
    *out = s;
    return CN_OK;
}

static void plan_close(sized_plan *p)
{
    cn_plan_destroy(p->plan);
    cn_graph_destroy(p->graph);
    *p = (sized_plan){0};
}

void cn_session_close(cn_session *s)
{
    if (!s) return;
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; k < PLANS; k++) plan_close(&s->nets[i].plans[k]);
        cn_params_destroy(s->nets[i].params);
        cn_tensors_close(s->nets[i].file);
    }
    cn_free(s);
}

void cn_session_set_resolution(cn_session *s, int64_t resolution)
{
    s->args.resolution = resolution;
}

cn_ctx *cn_session_ctx(const cn_session *s)
{
    return s->ctx;
}

const cn_annotate_args *cn_session_args(const cn_session *s)
{
    return &s->args;
}

/* --- networks --------------------------------------------------------------------------------- */

const cn_network *cn_session_network(const cn_session *s, int role)
{
    for (int i = 0; i < s->n; i++)
        if (s->nets[i].role == role) return s->nets[i].net;
    return NULL;
}

cn_status cn_session_need(cn_session *s, int role, const cn_network **out)
{
    *out = cn_session_network(s, role);
    return *out ? CN_OK : missing(s->ctx, s->args.kind, role, "");
}

static cn_status check_memory(cn_session *s, const char *who, int64_t H, int64_t W, size_t bytes,
                              size_t available, const char *memory)
{
    if (s->rehearsal) s->rehearsal->bytes += bytes;
    if (s->rehearsal || bytes <= available) return CN_OK;
    return cn_fail(s->ctx, CN_ENOMEM,
                   "%s at %lldx%lld needs %.1f GB of %s, %.1f are free: a (detect) resolution "
                   "of 512 px, for one, needs less",
                   who, (long long)W, (long long)H, (double)bytes / 1e9, memory,
                   (double)available / 1e9);
}

cn_status cn_session_check_memory(cn_session *s, const char *who, int64_t H, int64_t W,
                                  size_t bytes)
{
    return check_memory(s, who, H, W, bytes, cn_available_bytes(), "memory");
}

static cn_status check_arena(cn_session *s, const char *who, int64_t H, int64_t W, size_t bytes)
{
    cn_backend_memory m;
    if (s->backend->addressable) return cn_session_check_memory(s, who, H, W, bytes);
    s->backend->memory(s->backend, &m);
    return check_memory(s, who, H, W, bytes, m.free, "the device's memory");
}

static cn_status build(cn_session *s, loaded *l, int64_t H, int64_t W, sized_plan *p)
{
    p->H = H;
    p->W = W;
    CN_TRY(cn_graph_create(s->ctx, &p->graph));
    cn_graph_use(p->graph, l->params);
    p->x = cn_input4(p->graph, "x", 1, H, W, l->net->channels);
    l->net->build(p->graph, p->x, p->out);
    cn_status status = cn_graph_status(p->graph);
    if (status != CN_OK)
        return cn_fail_prefix(s->ctx, status, "%s at %lldx%lld", l->net->name, (long long)W,
                              (long long)H);
    while (p->n_out < CN_NETWORK_OUTPUTS && p->out[p->n_out]) p->n_out++;
    CN_TRY(cn_plan_create(s->ctx, p->graph, s->backend, p->out, p->n_out, false, &p->plan));
    cn_plan_info info;
    cn_plan_info_get(p->plan, &info);
    CN_TRY(check_arena(s, l->net->name, H, W, info.arena_bytes));
    return CN_OK;
}

/* Needs a plan of the network. */
static cn_status fill(cn_session *s, loaded *l)
{
    if (!l->file) return CN_OK;
    CN_TRY(cn_network_load(s->ctx, l->net, l->file, l->path, s->backend, l->params));
    cn_tensors_close(l->file);
    l->file = NULL;
    return CN_OK;
}

/* The plan for this size, made in place of the one that was unused for longest; the others let
 * their memory go. */
static cn_status plan_for(cn_session *s, loaded *l, int64_t H, int64_t W, sized_plan **out)
{
    sized_plan *found = NULL, *oldest = &l->plans[0];
    for (int i = 0; i < PLANS; i++) {
        sized_plan *p = &l->plans[i];
        if (p->plan && p->H == H && p->W == W) found = p;
        if (p->used < oldest->used) oldest = p;
    }
    if (!found) plan_close(oldest);
    for (int i = 0; i < PLANS; i++)
        if (&l->plans[i] != found) cn_plan_drop(l->plans[i].plan);
    if (!found) {
        cn_status status = build(s, l, H, W, oldest);
        if (status != CN_OK) {
            plan_close(oldest);
            return status;
        }
    }
    *out = found ? found : oldest;
    (*out)->used = ++l->runs;
    return CN_OK;
}

static cn_network_values values_of(const sized_plan *p)
{
    cn_network_values v = {.n = p->n_out};
    for (int i = 0; i < p->n_out; i++) {
        v.data[i] = cn_plan_data(p->plan, p->out[i]);
        memcpy(v.shape[i], p->out[i]->shape, sizeof v.shape[i]);
    }
    return v;
}

/* Only counts; the values are an arena's that was never written: zeros. */
static cn_status rehearse(cn_session *s, sized_plan *p, cn_network_values *out)
{
    cn_plan_info info;
    cn_plan_info_get(p->plan, &info);
    s->rehearsal->flops += info.flops;
    *out = values_of(p);
    return CN_OK;
}

cn_status cn_session_run(cn_session *s, const cn_network *net, int64_t H, int64_t W, const float *x,
                         cn_network_values *out)
{
    loaded *l = NULL;
    for (int i = 0; i < s->n; i++)
        if (s->nets[i].net == net) l = &s->nets[i];
    if (!l) return cn_fail(s->ctx, CN_EINTERNAL, "%s was not loaded", net->name);
    sized_plan *p = NULL;
    CN_TRY(plan_for(s, l, H, W, &p));
    if (s->rehearsal) return rehearse(s, p, out);
    CN_TRY(fill(s, l));
    CN_TRY(cn_plan_set(p->plan, p->x, x));
    CN_TRY(cn_plan_run(p->plan));
    for (int i = 0; i < p->n_out; i++) CN_TRY(cn_plan_expect_finite(p->plan, p->out[i]));
    *out = values_of(p);
    return CN_OK;
}

/* --- pictures --------------------------------------------------------------------------------- */

/* The nearest side that the kind can see. */
static int64_t round_side(const cn_kind *kind, int64_t n)
{
    const int64_t multiple = CN_MAX(kind->multiple, 1);
    return CN_MAX((n + multiple / 2) / multiple * multiple, CN_MAX(kind->least, multiple));
}

/* `in` as the annotator shall see it: *made a new image, or NULL where it sees `in` itself. */
static cn_status size_input(cn_session *s, const cn_image *in, cn_image **made)
{
    const cn_annotate_args *a = &s->args;
    const int64_t px = a->detect_resolution ? a->detect_resolution : a->resolution;
    if (px) return cn_image_resize_64(s->ctx, in, px, made);
    const int64_t w = round_side(a->kind, in->width), h = round_side(a->kind, in->height);
    if (w == in->width && h == in->height) return CN_OK;
    return cn_image_resize(s->ctx, in, w, h,
                           w > in->width || h > in->height ? CN_FILTER_LANCZOS4 : CN_FILTER_AREA,
                           made);
}

cn_status cn_session_fit(cn_session *s, cn_image **map)
{
    cn_image *sized = NULL;
    if ((*map)->width == s->width && (*map)->height == s->height) return CN_OK;
    CN_TRY(cn_image_resize(s->ctx, *map, s->width, s->height, s->args.kind->map_filter, &sized));
    cn_image_destroy(*map);
    *map = sized;
    return CN_OK;
}

cn_status cn_session_annotate(cn_session *s, const cn_image *in, cn_image **out)
{
    const cn_kind *kind = s->args.kind;
    cn_image *sized = NULL, *map = NULL;
    if (!kind->run)
        return cn_fail(s->ctx, CN_EINVAL, "%s takes %s, not a photograph", kind->name,
                       cn_takes_name(kind->takes));
    s->width = in->width;
    s->height = in->height;
    if (s->args.resolution)
        CN_TRY(cn_resize_64_size(s->ctx, in, s->args.resolution, &s->width, &s->height));
    CN_TRY(size_input(s, in, &sized));
    cn_status status = kind->run(s, sized ? sized : in, &map);
    cn_image_destroy(sized);
    if (status == CN_OK) status = cn_session_fit(s, &map);
    if (status != CN_OK) {
        cn_image_destroy(map);
        return status;
    }
    *out = map;
    return CN_OK;
}

cn_status cn_session_rehearse(cn_session *s, int64_t width, int64_t height, cn_session_cost *out)
{
    cn_session_cost cost = {0};
    cn_image *in = NULL, *map = NULL;
    CN_TRY(cn_image_create(s->ctx, width, height, &in));
    s->rehearsal = &cost;
    const cn_status status = cn_session_annotate(s, in, &map);
    s->rehearsal = NULL;
    for (int i = 0; i < s->n; i++) cost.bytes += cn_params_bytes(s->nets[i].params);
    cn_image_destroy(in);
    cn_image_destroy(map);
    if (status == CN_OK) *out = cost;
    return status;
}

cn_status cn_annotate(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in, cn_image **out)
{
    cn_session *s = NULL;
    CN_TRY(cn_session_open(ctx, args, NULL, &s));
    cn_status status = cn_session_annotate(s, in, out);
    cn_session_close(s);
    return status;
}
