/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - GGUF files: GGML's tensors with their names, as stable-diffusion.cpp and ComfyUI-GGUF
 * write them.
 *
 * Layout (ggml's docs/gguf.md): "GGUF", version, numbers of tensors and of key-value pairs, the
 * pairs, for each tensor its name, dimensions (innermost first), type and offset, then the data
 * from the next multiple of general.alignment on. Versions 2 and 3 differ in nothing that matters
 * here. Every number is checked against the file's length before it is used.
 *
 * Invariant: a tensor's bytes lie inside the file, and its rows are whole blocks of its type.
 * ComfyUI-GGUF flattens tensors whose rows are no whole blocks and writes their shapes as
 * comfy.gguf.orig_shape.NAME; those are theirs again.
 */
#include "io/tensors_internal.h"

#include <string.h>

enum {
    MAX_TENSORS = 1 << 20,
    MAX_PAIRS = 1 << 16,
    MAX_NAME = 1024,
    MAX_NESTING = 4,
    MAX_SHAPES = 4096
};

/* Numbers of GGML's types, of those that are read. */
static const struct {
    uint32_t number;
    cn_dtype dtype;
} types[] = {
    {0, CN_F32}, {1, CN_F16},   {2, CN_Q4_0},  {3, CN_Q4_1},  {6, CN_Q5_0},  {7, CN_Q5_1},
    {8, CN_Q8},  {10, CN_Q2_K}, {11, CN_Q3_K}, {12, CN_Q4_K}, {13, CN_Q5_K}, {14, CN_Q6_K},
    {24, CN_I8}, {25, CN_I16},  {26, CN_I32},  {27, CN_I64},  {28, CN_F64},  {30, CN_BF16},
};

/* Types of values: bytes of a number, 0 for the others. */
enum { FLOAT = 6, STRING = 8, ARRAY = 9, DOUBLE = 12, VALUE_TYPES = 13, UINT = 4 };
static const uint8_t value_bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct text {
    const char *s;
    size_t n;
} text;

/* comfy.gguf.orig_shape.NAME: dimensions, outermost first. */
typedef struct shape {
    text name;
    int ndim;
    int64_t dims[CN_MAX_DIMS];
} shape;

typedef struct reader {
    cn_ctx *ctx;
    cn_tensors *t;
    size_t at; /* never beyond t->n */
    uint64_t alignment;
    shape *shapes;
    int n_shapes;
} reader;

static cn_status cut_off(const reader *r)
{
    return cn_fail(r->ctx, CN_EFORMAT,
                   "the GGUF file ends at byte %zu, within its header; it is truncated or damaged",
                   r->t->n);
}

/* `bytes` bytes, at most 8, little-endian. */
static cn_status read_uint_le(reader *r, size_t bytes, uint64_t *out)
{
    uint64_t v = 0;
    if (r->t->n - r->at < bytes) return cut_off(r);
    for (size_t i = bytes; i-- > 0;) v = v << 8 | r->t->bytes[r->at + i];
    r->at += bytes;
    *out = v;
    return CN_OK;
}

static cn_status take_text(reader *r, text *out)
{
    uint64_t n = 0;
    CN_TRY(read_uint_le(r, 8, &n));
    if (n > r->t->n - r->at) return cut_off(r);
    *out = (text){(const char *)r->t->bytes + r->at, (size_t)n};
    r->at += (size_t)n;
    return CN_OK;
}

/* --- key-value pairs -------------------------------------------------------------------------- */

static cn_status pass_value(reader *r, uint64_t type, int depth);

static cn_status pass_array(reader *r, int depth)
{
    uint64_t type = 0, n = 0;
    size_t bytes;
    CN_TRY(read_uint_le(r, 4, &type));
    CN_TRY(read_uint_le(r, 8, &n));
    if (type >= VALUE_TYPES || depth > MAX_NESTING)
        return cn_fail(r->ctx, CN_EFORMAT, "a GGUF array of type %llu, which doesn't exist",
                       (unsigned long long)type);
    if (value_bytes[type]) {
        if (n > r->t->n || !cn_mul_size((size_t)n, value_bytes[type], &bytes) ||
            bytes > r->t->n - r->at)
            return cut_off(r);
        r->at += bytes;
        return CN_OK;
    }
    /* Each takes bytes of the file, so it ends. */
    for (uint64_t i = 0; i < n; i++) CN_TRY(pass_value(r, type, depth));
    return CN_OK;
}

static cn_status pass_value(reader *r, uint64_t type, int depth)
{
    uint64_t number;
    text words;
    if (type == STRING) return take_text(r, &words);
    if (type == ARRAY) return pass_array(r, depth + 1);
    if (type < VALUE_TYPES) return read_uint_le(r, value_bytes[type], &number);
    return cn_fail(r->ctx, CN_EFORMAT, "a GGUF value of type %llu, which doesn't exist",
                   (unsigned long long)type);
}

/* An array of whole numbers as the shape of tensor `name`; passed over where it is no shape. */
static cn_status take_shape(reader *r, text name)
{
    const size_t begin = r->at;
    uint64_t type = 0, n = 0, v = 0;
    shape s = {.name = name};
    CN_TRY(read_uint_le(r, 4, &type));
    CN_TRY(read_uint_le(r, 8, &n));
    const bool whole =
        type < VALUE_TYPES && value_bytes[type] >= 4 && type != FLOAT && type != DOUBLE;
    if (!whole || n > CN_MAX_DIMS || r->n_shapes == MAX_SHAPES) {
        r->at = begin;
        return pass_array(r, 0);
    }
    for (uint64_t i = 0; i < n; i++) {
        CN_TRY(read_uint_le(r, value_bytes[type], &v));
        s.dims[i] = (int64_t)v;
    }
    s.ndim = (int)n;
    if (r->n_shapes % 64 == 0) {
        const size_t have = (size_t)r->n_shapes;
        shape *list = cn_regrow(r->ctx, r->shapes, have * sizeof *list, (have + 64) * sizeof *list);
        if (!list) return CN_ENOMEM;
        r->shapes = list;
    }
    r->shapes[r->n_shapes++] = s;
    return CN_OK;
}

static bool begins(text t, const char *with)
{
    const size_t n = strlen(with);
    return t.n >= n && !memcmp(t.s, with, n);
}

static cn_status take_pair(reader *r)
{
    static const char original[] = "comfy.gguf.orig_shape.";
    text key;
    uint64_t type = 0;
    CN_TRY(take_text(r, &key));
    CN_TRY(read_uint_le(r, 4, &type));
    if (type == ARRAY && begins(key, original))
        return take_shape(r, (text){key.s + strlen(original), key.n - strlen(original)});
    if (type != UINT || key.n != strlen("general.alignment") || !begins(key, "general.alignment"))
        return pass_value(r, type, 0);
    CN_TRY(read_uint_le(r, 4, &r->alignment));
    if (r->alignment && !(r->alignment & (r->alignment - 1)) && r->alignment <= 1 << 20)
        return CN_OK;
    return cn_fail(r->ctx, CN_EFORMAT, "a GGUF alignment of %llu bytes; a power of 2 is expected",
                   (unsigned long long)r->alignment);
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* One tensor's entry; its bytes are looked for once the header's end is known. */
typedef struct entry {
    cn_tensor_info info; /* name and data unset */
    text name;
    uint64_t type, offset;
    bool known;
} entry;

static void restore_shape(const reader *r, entry *e)
{
    int64_t n = 1;
    for (int i = 0; i < r->n_shapes; i++) {
        const shape *s = &r->shapes[i];
        if (s->name.n != e->name.n || memcmp(s->name.s, e->name.s, e->name.n) != 0) continue;
        for (int k = 0; k < s->ndim; k++)
            if (s->dims[k] < 0 || __builtin_mul_overflow(n, s->dims[k], &n)) return;
        if (n != e->info.elements) return;
        e->info.ndim = s->ndim;
        memcpy(e->info.shape, s->dims, sizeof s->dims);
    }
}

/* ne: innermost first; trailing ones were left out. */
static cn_status set_shape(reader *r, entry *e, const uint64_t *ne, int n)
{
    size_t unused;
    e->info.ndim = n;
    /* What doesn't fit becomes negative, which no shape may be. */
    for (int i = 0; i < n; i++) e->info.shape[n - 1 - i] = (int64_t)ne[i];
    if (!cn_shape_size(e->info.shape, n, 1, &e->info.elements, &unused))
        return cn_fail(r->ctx, CN_EFORMAT, "tensor %.*s: its shape is too large",
                       (int)CN_MIN(e->name.n, (size_t)200), e->name.s);
    if (n && ne[0] % (uint64_t)cn_dtype_block(e->info.dtype))
        return cn_fail(r->ctx, CN_EFORMAT, "tensor %.*s: rows of %llu elements are no blocks of %d",
                       (int)CN_MIN(e->name.n, (size_t)200), e->name.s, (unsigned long long)ne[0],
                       cn_dtype_block(e->info.dtype));
    restore_shape(r, e);
    cn_shape_strides(e->info.shape, e->info.ndim, e->info.stride);
    return CN_OK;
}

static cn_status take_entry(reader *r, entry *e)
{
    uint64_t dims = 0, ne[CN_MAX_DIMS] = {0}, ignored;
    *e = (entry){0};
    CN_TRY(take_text(r, &e->name));
    if (!e->name.n || e->name.n > MAX_NAME || memchr(e->name.s, 0, e->name.n))
        return cn_fail(r->ctx, CN_EFORMAT, "a tensor's name of %zu bytes, or with a zero in it",
                       e->name.n);
    CN_TRY(read_uint_le(r, 4, &dims));
    for (uint64_t i = 0; i < dims; i++)
        CN_TRY(read_uint_le(r, 8, i < CN_MAX_DIMS ? &ne[i] : &ignored));
    CN_TRY(read_uint_le(r, 4, &e->type));
    CN_TRY(read_uint_le(r, 8, &e->offset));
    for (size_t i = 0; i < CN_COUNT(types); i++)
        if (types[i].number == e->type) {
            e->info.dtype = types[i].dtype;
            e->known = true;
        }
    if (dims > CN_MAX_DIMS) e->known = false;
    return e->known ? set_shape(r, e, ne, (int)dims) : CN_OK;
}

static cn_status add_entry(reader *r, const entry *e, size_t data_at)
{
    char why[48];
    if (!e->known) {
        snprintf(why, sizeof why, "GGML type %llu", (unsigned long long)e->type);
        return cn_tensors_skip(r->ctx, r->t, e->name.s, e->name.n, why);
    }
    cn_tensor_info info = e->info;
    const size_t room = r->t->n - data_at;
    /* Elements fit int64_t and a block has no more bytes than 8 times its elements. */
    const size_t bytes =
        info.elements > PTRDIFF_MAX / 8 ? SIZE_MAX : cn_dtype_size(info.dtype, info.elements);
    if (e->offset > room || bytes > room - (size_t)e->offset)
        return cn_fail(r->ctx, CN_EFORMAT,
                       "tensor %.*s: its data lies beyond the file's end; the file is truncated or "
                       "damaged",
                       (int)CN_MIN(e->name.n, (size_t)200), e->name.s);
    info.name = e->name.s;
    info.data = r->t->bytes + data_at + (size_t)e->offset;
    return cn_tensors_add(r->ctx, r->t, &info, e->name.n);
}

static cn_status take_tensors(reader *r, uint64_t n)
{
    entry *list = cn_alloc_array(r->ctx, (size_t)n + 1, sizeof *list);
    cn_status s = list ? CN_OK : CN_ENOMEM;
    for (uint64_t i = 0; s == CN_OK && i < n; i++) s = take_entry(r, &list[i]);
    const size_t rest = (size_t)(r->at % r->alignment);
    const size_t data_at = CN_MIN(r->at + (rest ? (size_t)r->alignment - rest : 0), r->t->n);
    for (uint64_t i = 0; s == CN_OK && i < n; i++) s = add_entry(r, &list[i], data_at);
    cn_free(list);
    return s;
}

static cn_status parse(reader *r)
{
    uint64_t version = 0, tensors = 0, pairs = 0;
    CN_TRY(read_uint_le(r, 4, &version));
    if (version < 2 || version > 3)
        return cn_fail(r->ctx, CN_EFORMAT, "a GGUF file of version %llu%s; 2 and 3 are read",
                       (unsigned long long)version,
                       version > 0xffff ? ", or one for a big-endian machine" : "");
    CN_TRY(read_uint_le(r, 8, &tensors));
    CN_TRY(read_uint_le(r, 8, &pairs));
    /* A tensor's entry has 24 bytes at least, a pair 13. */
    if (tensors > MAX_TENSORS || pairs > MAX_PAIRS || tensors > r->t->n / 24 ||
        pairs > r->t->n / 13)
        return cn_fail(r->ctx, CN_EFORMAT,
                       "a GGUF file of %llu tensors and %llu values; its header is damaged",
                       (unsigned long long)tensors, (unsigned long long)pairs);
    for (uint64_t i = 0; i < pairs; i++) CN_TRY(take_pair(r));
    return take_tensors(r, tensors);
}

cn_status cn_gguf_parse(cn_ctx *ctx, cn_tensors *t)
{
    reader r = {.ctx = ctx, .t = t, .at = 4, .alignment = 32};
    const cn_status s = parse(&r);
    cn_free(r.shapes);
    return s;
}
