/* SPDX-License-Identifier: Apache-2.0 */
/* ranges.c - see ranges.h. */
#include "model/checkpoint/ranges.h"

#include "model/checkpoint/averages.h"
#include "model/checkpoint/source.h"

#include <string.h>

/* A weight that F16, the narrowest range, can't hold. */
typedef struct range {
    char *name; /* diffusers' */
    float largest;
} range;

typedef struct network {
    char *name;
    range *list;
    int n, cap;
    cn_dtype told; /* the last storage type that the log was told about; F32: none */
} network;

enum { MAX_NETWORKS = 8 };

struct cn_ranges {
    network networks[MAX_NETWORKS];
    int n;
};

cn_status cn_ranges_create(cn_ctx *ctx, cn_ranges **out)
{
    *out = cn_alloc0(ctx, sizeof **out);
    return *out ? CN_OK : CN_ENOMEM;
}

static void network_free(network *w)
{
    for (int i = 0; i < w->n; i++) cn_free(w->list[i].name);
    cn_free(w->list);
    cn_free(w->name);
    *w = (network){0};
}

void cn_ranges_destroy(cn_ranges *r)
{
    if (!r) return;
    for (int i = 0; i < r->n; i++) network_free(&r->networks[i]);
    cn_free(r);
}

/* Storage in BF16 loses no range that a product could use: it ends within 0.4 % of F32. */
static bool may_exceed(const cn_tensor_info *t, cn_dtype storage)
{
    const bool wide = t->dtype == CN_F32 || t->dtype == CN_F64 || t->dtype == CN_BF16;
    const bool scaled = t->scale || t->dtype > CN_DTYPE_COUNT;
    return (wide || scaled) && (storage == CN_F16 || storage == CN_Q8);
}

bool cn_ranges_matter(const cn_source *s, cn_dtype storage)
{
    for (int64_t i = 0; i < cn_tensors_count(s->file); i++) {
        const cn_tensor_info *t = cn_tensors_at(s->file, i);
        if (may_exceed(t, storage) && cn_tensor_is_in(s->file, s->prefix, t->name)) return true;
    }
    return false;
}

/* The largest finite magnitude at a place, or any above it that F16 holds. */
static cn_status measure(cn_ctx *ctx, const cn_source *s, const cn_place *at, const cn_param *q,
                         float *out)
{
    const cn_tensor_info *t = at->tensor;
    const int64_t rows = t->ndim ? t->shape[0] / at->parts : 1, n = cn_param_elements(q);
    size_t bytes;
    const void *data = cn_tensor_rows(t, at->part * rows, rows, &bytes);
    if (data) { /* a transposed matrix has the same */
        *out = cn_largest(t->dtype, data, (size_t)n);
        cn_tensors_let_go(s->file, data, bytes);
        return CN_OK;
    }
    if (t->dtype > CN_DTYPE_COUNT) {
        *out = cn_largest_bound(t->dtype, t->data, (size_t)t->elements);
        cn_tensors_let_go(s->file, t->data, cn_dtype_size(t->dtype, t->elements));
        if (*out < cn_dtype_limit(CN_F16)) return CN_OK;
    }
    float *values = cn_alloc_array(ctx, (size_t)n, sizeof *values);
    if (!values) return CN_ENOMEM;
    const cn_status status = cn_place_read(ctx, s, at, values);
    if (status == CN_OK) *out = cn_largest(CN_F32, values, (size_t)n);
    cn_free(values);
    return status;
}

static cn_status add(cn_ctx *ctx, network *w, const char *name, float largest)
{
    if (w->n == w->cap) {
        const int cap = 2 * w->cap + 8;
        range *list =
            cn_regrow(ctx, w->list, (size_t)w->n * sizeof *list, (size_t)cap * sizeof *list);
        if (!list) return CN_ENOMEM;
        w->list = list;
        w->cap = cap;
    }
    char *copy = cn_strdup(ctx, name);
    if (!copy) return CN_ENOMEM;
    w->list[w->n++] = (range){copy, largest};
    return CN_OK;
}

static cn_status find_nonfinite(cn_ctx *ctx, const cn_source *s, const cn_params *declared,
                                network *w)
{
    cn_status status = (w->name = cn_strdup(ctx, cn_params_network(declared))) ? CN_OK : CN_ENOMEM;
    for (int64_t i = 0; status == CN_OK && i < cn_params_count(declared); i++) {
        const cn_param *q = cn_params_at(declared, i);
        float largest = 0;
        if (q->ndim < 2) continue; /* is F32 in any case */
        const cn_place at = cn_source_find(s, cn_params_net(declared), q);
        /* What is missing or misshapen is named when it is loaded. */
        if (!at.tensor || !cn_place_fits(&at, q) || !may_exceed(at.tensor, CN_F16)) continue;
        status = measure(ctx, s, &at, q, &largest);
        if (status == CN_OK && largest >= cn_dtype_limit(CN_F16))
            status = add(ctx, w, q->diffusers_name, largest);
    }
    return status;
}

static cn_status find(cn_ctx *ctx, cn_ranges *r, const cn_source *s, const cn_params *declared,
                      network **out)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->networks[i].name, cn_params_network(declared))) {
            *out = &r->networks[i];
            return CN_OK;
        }
    if (r->n == MAX_NETWORKS) return cn_fail(ctx, CN_EINTERNAL, "ranges of too many networks");
    network *w = &r->networks[r->n];
    const cn_status status = find_nonfinite(ctx, s, declared, w);
    if (status != CN_OK) {
        network_free(w);
        return status;
    }
    r->n++;
    *out = w;
    return CN_OK;
}

/* Once per type, though plans for several ways to fit memory ask again. */
static void tell(cn_ctx *ctx, const cn_source *s, network *w, cn_dtype storage)
{
    enum { MAX_NAMED = 5 };
    cn_str names = {0};
    int n = 0;
    if (w->told == storage) return;
    for (int i = 0; i < w->n; i++) {
        if (w->list[i].largest < cn_dtype_limit(storage) || n++ >= MAX_NAMED) continue;
        cn_str_addf(&names, "%s%s (%g)", n > 1 ? ", " : "", w->list[i].name,
                    (double)w->list[i].largest);
    }
    if (n > MAX_NAMED) cn_str_addf(&names, " and %d more", n - MAX_NAMED);
    if (n)
        cn_log(ctx, CN_LOG_WARN, "%s: %d weight%s of the %s beyond %s's range stay%s f32: %s",
               s->path, n, n == 1 ? "" : "s", w->name, cn_weight_type_word(storage),
               n == 1 ? "s" : "", names.data ? names.data : "");
    cn_str_free(&names);
    w->told = storage;
}

cn_status cn_ranges_apply(cn_ctx *ctx, cn_ranges *r, const cn_source *s, const cn_params *declared,
                          cn_params *p)
{
    const cn_dtype storage = cn_params_storage(p);
    network *w = NULL;
    CN_TRY(find(ctx, r, s, declared, &w));
    for (int i = 0; i < w->n; i++)
        if (w->list[i].largest >= cn_dtype_limit(storage))
            CN_TRY(cn_params_keep_f32(p, w->list[i].name));
    tell(ctx, s, w, storage);
    return CN_OK;
}
