/* SPDX-License-Identifier: Apache-2.0 */
/* torchtree.c - the tensors in the pickle of a torch checkpoint, under the names that lead to them.
 *
 * The pickle's tree is walked with limits on depth and on visits, since a few bytes of pickle can
 * describe an exponential or endless one by sharing. Where the bytes of a storage are differs
 * between torch's formats: the caller's find() knows.
 */
#include "io/tensors_internal.h"

#include <string.h>

enum {
    MAX_DEPTH = 32,
    MAX_VISITS = 4000000,
    MAX_NAME = 1024,
    MAX_EXPANDED = 1 << 24 /* elements of a tensor that repeats its storage through stride 0 */
};

typedef struct walk {
    cn_ctx *ctx;
    cn_tensors *t;
    const cn_torch_source *source;
    char name[MAX_NAME];
    size_t visits;
} walk;

/* The highest element that a view touches, plus one; false when that overflows. */
static bool view_extent(const cn_pickle_tensor *v, int64_t *out)
{
    int64_t last = v->offset, step;
    for (int i = 0; i < v->ndim; i++)
        if (__builtin_mul_overflow(v->shape[i] - 1, v->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    return !__builtin_add_overflow(last, (int64_t)1, out);
}

static cn_status check_view(walk *w, const cn_pickle_tensor *v, const char *name)
{
    const cn_pickle_storage *s = v->storage;
    int64_t elements, extent;
    size_t bytes;
    if (!cn_shape_size(v->shape, v->ndim, cn_dtype_bytes(s->dtype), &elements, &bytes))
        return cn_fail(w->ctx, CN_EFORMAT, "tensor %s: its shape is too large", name);
    if (elements == 0) return CN_OK;
    if (!view_extent(v, &extent) || extent > s->elements)
        return cn_fail(
            w->ctx, CN_EFORMAT,
            "tensor %s: shape, strides and offset reach beyond its storage of %lld elements", name,
            (long long)s->elements);
    if (elements > s->elements && elements > MAX_EXPANDED)
        return cn_fail(w->ctx, CN_EFORMAT, "tensor %s: %lld elements over a storage of %lld", name,
                       (long long)elements, (long long)s->elements);
    return CN_OK;
}

static cn_status take_tensor(walk *w, const cn_pickle_tensor *v, size_t name_len)
{
    const char *name = name_len ? w->name : "tensor"; /* the file is one bare tensor */
    if (!v->supported)
        return cn_tensors_skip(w->ctx, w->t, name, strlen(name), "a type or rank not known here");
    const cn_pickle_storage *s = v->storage;
    size_t elem_bytes = cn_dtype_bytes(s->dtype);
    CN_TRY(check_view(w, v, name));
    const unsigned char *data = NULL;
    CN_TRY(w->source->find(w->ctx, w->source->user, s, name, &data));
    cn_tensor_info info = {.name = name, .dtype = s->dtype, .ndim = v->ndim, .data = data};
    memcpy(info.shape, v->shape, sizeof info.shape);
    memcpy(info.stride, v->stride, sizeof info.stride);
    int64_t elements;
    size_t bytes;
    if (cn_shape_size(info.shape, info.ndim, elem_bytes, &elements, &bytes) && elements > 0)
        info.data = data + (size_t)v->offset * elem_bytes;
    return cn_tensors_add(w->ctx, w->t, &info, strlen(name));
}

/* Appends ".part" to the name of len bytes; *out is the new length. */
static cn_status extend_name(walk *w, size_t len, const char *part, size_t n, size_t *out)
{
    size_t dot = len ? 1 : 0;
    if (memchr(part, 0, n) || n > sizeof w->name - 2 || len + dot > sizeof w->name - 1 - n)
        return cn_fail(w->ctx, CN_EFORMAT, "a tensor's name is too long or holds a zero byte");
    if (dot) w->name[len] = '.';
    memcpy(w->name + len + dot, part, n);
    w->name[len + dot + n] = 0;
    *out = len + dot + n;
    return CN_OK;
}

static cn_status visit(walk *w, const cn_pickle_obj *o, size_t len, int depth);

static cn_status visit_number(walk *w, const cn_pickle_obj *o, long long number, size_t len,
                              int depth)
{
    char text[24];
    size_t next = 0;
    int n = snprintf(text, sizeof text, "%lld", number);
    CN_TRY(extend_name(w, len, text, (size_t)n, &next));
    return visit(w, o, next, depth);
}

static bool holds_tensors(const cn_pickle_obj *o)
{
    return o->kind == CN_PK_DICT || o->kind == CN_PK_LIST || o->kind == CN_PK_TUPLE ||
           o->kind == CN_PK_TENSOR;
}

static cn_status visit_pair(walk *w, const cn_pickle_obj *key, const cn_pickle_obj *value,
                            size_t len, int depth)
{
    size_t next = 0;
    if (!holds_tensors(value)) return CN_OK;
    if (depth == 1 && cn_pickle_is_str(key, "state_dict") && value->kind == CN_PK_DICT)
        return visit(w, value, 0, depth);
    if (key->kind == CN_PK_INT) return visit_number(w, value, (long long)key->u.i, len, depth);
    /* A class as key: its name stands for it. Other keys can't be written down. */
    const cn_pickle_obj *text = key->kind == CN_PK_GLOBAL ? key->u.items[1] : key;
    if (text->kind != CN_PK_STR) return CN_OK;
    CN_TRY(extend_name(w, len, text->u.s, text->n, &next));
    return visit(w, value, next, depth);
}

static cn_status visit(walk *w, const cn_pickle_obj *o, size_t len, int depth)
{
    bool container = o->kind == CN_PK_DICT || o->kind == CN_PK_LIST || o->kind == CN_PK_TUPLE;
    w->visits += 1 + (container ? o->n : 0);
    if (w->visits > MAX_VISITS || depth > MAX_DEPTH)
        return cn_fail(w->ctx, CN_EFORMAT,
                       "its containers are nested more than %d deep or hold more than %d items",
                       MAX_DEPTH, MAX_VISITS);
    if (o->kind == CN_PK_TENSOR) return take_tensor(w, o->u.tensor, len);
    if (o->kind == CN_PK_DICT)
        for (size_t i = 0; i + 1 < o->n; i += 2)
            CN_TRY(visit_pair(w, o->u.items[i], o->u.items[i + 1], len, depth + 1));
    if (o->kind == CN_PK_LIST || o->kind == CN_PK_TUPLE)
        for (size_t i = 0; i < o->n; i++)
            if (holds_tensors(o->u.items[i]))
                CN_TRY(visit_number(w, o->u.items[i], (long long)i, len, depth + 1));
    return CN_OK;
}

cn_status cn_torch_tree(cn_ctx *ctx, cn_tensors *t, const cn_pickle *pickle,
                        const cn_torch_source *source)
{
    walk *w = cn_alloc0(ctx, sizeof *w);
    if (!w) return CN_ENOMEM;
    w->ctx = ctx;
    w->t = t;
    w->source = source;
    cn_status s = visit(w, cn_pickle_root(pickle), 0, 0);
    cn_free(w);
    return s;
}
