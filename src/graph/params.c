/* SPDX-License-Identifier: Apache-2.0 */
/* params.c - the parameters of one network: declared by builders, filled by loaders, walked by the
 * optimizer. Order is that of declaration; both names lead to the same entry. */
#include "graph/backend.h"
#include "graph/graph_internal.h"

#include <string.h>

/* Memory that parameters share. */
typedef struct cn_block {
    cn_backend *backend;
    void *data;
    size_t bytes;
} cn_block;

struct cn_params {
    cn_ctx *ctx;
    char network[64], label[64];
    char *path, *prefix; /* of the file that the values come from; NULL */
    bool diffusers;      /* the names that it has */
    cn_param **list;
    int64_t n, cap;
    int64_t *slots; /* open addressing over both names: 1 + index, 0 free */
    int64_t n_slots;
    bool trainable;                           /* of parameters declared from here on */
    bool (*part)(const char *diffusers_name); /* those that may be; NULL: all */
    cn_dtype compute, storage;                /* of locked layers' weights */
    const cn_low_rank *low;                   /* see cn_params_set_low_rank */
    char **kept_f32;                          /* diffusers names; see cn_params_keep_f32 */
    int n_kept_f32;
    cn_block *blocks; /* see cn_params_allocate */
    int n_blocks;
};

/* Memory that a parameter doesn't share with others. */
static void free_own(cn_param *q)
{
    if (q->backend && !q->shares) q->backend->free(q->backend, q->data, q->data_bytes);
}

cn_status cn_params_create(cn_ctx *ctx, const char *network, cn_params **out)
{
    cn_params *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->ctx = ctx;
    cn_status s = cn_format(ctx, p->network, sizeof p->network, "%s", network);
    if (s == CN_OK) s = cn_params_set_label(p, network);
    if (s != CN_OK) {
        cn_free(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

void cn_params_destroy(cn_params *p)
{
    if (!p) return;
    for (int64_t i = 0; i < p->n; i++) {
        cn_free(p->list[i]->ldm_name);
        cn_free(p->list[i]->diffusers_name);
        free_own(p->list[i]);
        cn_free(p->list[i]->layout);
        cn_free(p->list[i]->derived);
        cn_free(p->list[i]);
    }
    for (int i = 0; i < p->n_blocks; i++) {
        cn_block *k = &p->blocks[i];
        k->backend->free(k->backend, k->data, k->bytes);
    }
    cn_free(p->blocks);
    for (int i = 0; i < p->n_kept_f32; i++) cn_free(p->kept_f32[i]);
    cn_free(p->kept_f32);
    cn_free(p->path);
    cn_free(p->prefix);
    cn_free(p->list);
    cn_free(p->slots);
    cn_free(p);
}

const char *cn_params_network(const cn_params *p)
{
    return p->network;
}
cn_status cn_params_set_label(cn_params *p, const char *label)
{
    return cn_format(p->ctx, p->label, sizeof p->label, "%s", label);
}
const char *cn_params_label(const cn_params *p)
{
    return p->label;
}

cn_status cn_params_set_source(cn_params *p, const char *path, const char *prefix, bool diffusers)
{
    cn_free(p->path);
    cn_free(p->prefix);
    p->path = cn_strdup(p->ctx, path);
    p->prefix = cn_strdup(p->ctx, prefix);
    p->diffusers = diffusers;
    return p->path && p->prefix ? CN_OK : CN_ENOMEM;
}

const char *cn_params_path(const cn_params *p)
{
    return p->path;
}

bool cn_params_diffusers_names(const cn_params *p)
{
    return p->path && p->diffusers;
}

void cn_params_name_in_file(const cn_params *p, const cn_param *q, char out[CN_NAME_MAX])
{
    const char *name = cn_params_diffusers_names(p) ? q->diffusers_name : q->ldm_name;
    const int whole = (int)strcspn(name, "["); /* without which part of the tensor it is */
    snprintf(out, CN_NAME_MAX, "%s%.*s", p->path ? p->prefix : "", whole, name);
}

int64_t cn_params_count(const cn_params *p)
{
    return p->n;
}
cn_param *cn_params_at(const cn_params *p, int64_t i)
{
    return p->list[i];
}

size_t cn_params_bytes(const cn_params *p)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < p->n; i++) bytes += p->list[i]->data_bytes;
    return bytes;
}

int64_t cn_param_elements(const cn_param *q)
{
    int64_t n = 1;
    for (int i = 0; i < q->ndim; i++) n *= q->shape[i];
    return n;
}

int64_t cn_param_physical(const cn_param *q)
{
    return q->layout ? q->laid_elements : cn_param_elements(q);
}

static void slot_put(cn_params *p, const char *name, int64_t index)
{
    uint64_t h = cn_hash64(name, strlen(name));
    while (p->slots[h % (uint64_t)p->n_slots]) h++;
    p->slots[h % (uint64_t)p->n_slots] = index + 1;
}

static bool slots_grow(cn_params *p)
{
    int64_t n = p->n_slots ? 2 * p->n_slots : 1024;
    int64_t *slots = cn_alloc0(p->ctx, (size_t)n * sizeof *slots);
    if (!slots) return false;
    cn_free(p->slots);
    p->slots = slots;
    p->n_slots = n;
    for (int64_t i = 0; i < p->n; i++) {
        slot_put(p, p->list[i]->ldm_name, i);
        if (strcmp(p->list[i]->ldm_name, p->list[i]->diffusers_name) != 0)
            slot_put(p, p->list[i]->diffusers_name, i);
    }
    return true;
}

cn_param *cn_params_find(const cn_params *p, const char *name)
{
    if (!p->n_slots) return NULL;
    uint64_t h = cn_hash64(name, strlen(name));
    for (int64_t slot; (slot = p->slots[h % (uint64_t)p->n_slots]); h++) {
        cn_param *q = p->list[slot - 1];
        if (strcmp(q->ldm_name, name) == 0 || strcmp(q->diffusers_name, name) == 0) return q;
    }
    return NULL;
}

static bool in_part(const cn_params *p, const cn_param *q)
{
    return !p->part || p->part(q->diffusers_name);
}

static void set_trainable(const cn_params *p, cn_param *q)
{
    q->trainable = p->trainable && in_part(p, q);
    q->learns = q->trainable || (p->part && in_part(p, q));
}

cn_param *cn_params_declare(cn_params *p, const char *ldm_name, const char *diffusers_name)
{
    if (4 * (p->n + 1) > p->n_slots && !slots_grow(p)) return NULL;
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 256;
        cn_param **list =
            cn_regrow(p->ctx, p->list, (size_t)p->n * sizeof *list, (size_t)cap * sizeof *list);
        if (!list) return NULL;
        p->list = list;
        p->cap = cap;
    }
    cn_param *q = cn_alloc0(p->ctx, sizeof *q);
    if (!q) return NULL;
    q->ldm_name = cn_strdup(p->ctx, ldm_name);
    q->diffusers_name = cn_strdup(p->ctx, diffusers_name);
    if (!q->ldm_name || !q->diffusers_name) {
        cn_free(q->ldm_name);
        cn_free(q->diffusers_name);
        cn_free(q);
        return NULL;
    }
    q->network = p->network;
    set_trainable(p, q);
    p->list[p->n] = q;
    slot_put(p, ldm_name, p->n);
    if (strcmp(ldm_name, diffusers_name) != 0) slot_put(p, diffusers_name, p->n);
    p->n++;
    return q;
}

void cn_params_set_trainable(cn_params *p, bool trainable)
{
    p->trainable = trainable;
    for (int64_t i = 0; i < p->n; i++) {
        set_trainable(p, p->list[i]);
        cn_param_choose_dtype(p, p->list[i]);
    }
}

void cn_params_set_part(cn_params *p, bool (*part)(const char *diffusers_name))
{
    p->part = part;
    cn_params_set_trainable(p, p->trainable);
}

void cn_params_set_compute(cn_params *p, cn_dtype compute)
{
    p->compute = compute;
}

cn_dtype cn_params_compute(const cn_params *p)
{
    return p->compute;
}

void cn_params_set_storage(cn_params *p, cn_dtype storage)
{
    p->storage = storage;
    for (int64_t i = 0; i < p->n; i++) cn_param_choose_dtype(p, p->list[i]);
}

cn_dtype cn_params_storage(const cn_params *p)
{
    return p->storage;
}

void cn_params_set_low_rank(cn_params *p, const cn_low_rank *low)
{
    p->low = low;
}

const cn_low_rank *cn_params_low_rank(const cn_params *p)
{
    return p->low;
}

cn_status cn_params_keep_f32(cn_params *p, const char *diffusers_name)
{
    const size_t n = (size_t)p->n_kept_f32;
    char **names = cn_regrow(p->ctx, p->kept_f32, n * sizeof(char *), (n + 1) * sizeof(char *));
    if (!names) return CN_ENOMEM;
    p->kept_f32 = names;
    if (!(names[n] = cn_strdup(p->ctx, diffusers_name))) return CN_ENOMEM;
    p->n_kept_f32++;
    cn_param *q = cn_params_find(p, diffusers_name);
    if (q) cn_param_choose_dtype(p, q);
    return CN_OK;
}

static bool kept_f32(const cn_params *p, const cn_param *q)
{
    for (int i = 0; i < p->n_kept_f32; i++)
        if (!strcmp(p->kept_f32[i], q->diffusers_name)) return true;
    return false;
}

void cn_param_choose_dtype(const cn_params *p, cn_param *q)
{
    if (q->data) return;
    bool weight = q->ndim >= 2 && q->init != CN_INIT_NORMAL;
    q->dtype = weight && !q->learns && !kept_f32(p, q) ? p->storage : CN_F32;
    q->data_bytes = cn_dtype_size(q->dtype, cn_param_physical(q));
}

/* Bytes of q's values in a block, the next one's alignment included. */
static size_t share_of(const cn_param *q)
{
    enum { ALIGN = 64 };
    return q->data ? 0 : (q->data_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static cn_status add_block(cn_backend *b, cn_params *p, size_t bytes, char **out)
{
    const size_t n = (size_t)p->n_blocks;
    cn_block *blocks = cn_regrow(p->ctx, p->blocks, n * sizeof *blocks, (n + 1) * sizeof *blocks);
    if (!blocks) return CN_ENOMEM;
    p->blocks = blocks;
    blocks[n] = (cn_block){.backend = b, .data = b->alloc(b, p->ctx, bytes), .bytes = bytes};
    if (!blocks[n].data) return CN_ENOMEM;
    *out = blocks[n].data;
    p->n_blocks++;
    return CN_OK;
}

/* Memory for the parameters from number `from` on that one block has room for, *end: behind the
 * last of them. */
static cn_status allocate_from(cn_backend *b, cn_params *p, int64_t from, int64_t *end)
{
    size_t bytes = 0;
    char *at = NULL;
    int64_t i = from;
    for (; i < p->n; i++) {
        const size_t share = share_of(p->list[i]);
        if (b->limit && bytes && bytes + share > b->limit) break;
        bytes += share;
    }
    *end = i;
    if (!bytes) return CN_OK;
    CN_TRY(add_block(b, p, bytes, &at));
    for (i = from; i < *end; i++) {
        cn_param *q = p->list[i];
        const size_t share = share_of(q);
        if (!share) continue;
        q->data = at;
        q->backend = b;
        q->shares = true;
        at += share;
    }
    return CN_OK;
}

cn_status cn_params_allocate(cn_backend *b, cn_params *p)
{
    for (int64_t i = 0; i < p->n;) CN_TRY(allocate_from(b, p, i, &i));
    return CN_OK;
}

void cn_param_give(cn_backend *b, cn_param *q, void *data)
{
    free_own(q);
    q->backend = b;
    q->shares = false;
    q->data = data;
}

cn_status cn_param_set(cn_backend *b, cn_ctx *ctx, cn_param *q, const float *plain)
{
    return cn_param_set_from(b, ctx, q, CN_F32, plain);
}

cn_status cn_param_set_from(cn_backend *b, cn_ctx *ctx, cn_param *q, cn_dtype type,
                            const void *plain)
{
    if (!q->data && !(q->data = b->alloc(b, ctx, q->data_bytes))) return CN_ENOMEM;
    q->backend = b;
    CN_TRY(b->from_plain(b, ctx, q, type, plain, q->dtype, q->data));
    q->loaded = true;
    return CN_OK;
}

cn_status cn_param_get(cn_backend *b, cn_ctx *ctx, const cn_param *q, float *plain)
{
    if (!q->loaded) return cn_fail(ctx, CN_EINTERNAL, "%s: read before it was set", q->ldm_name);
    return b->to_plain(b, ctx, q, q->dtype, q->data, plain);
}
