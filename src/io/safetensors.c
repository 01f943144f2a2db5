/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c - the safetensors header: 8 bytes of length, JSON, then the data.
 *
 * As strict as the format's own reader: a header of at most 100 MB, no name twice, each size the
 * product of its shape and dtype, and the tensors together cover the data exactly (no overlap, gap
 * or rest).
 */
#include "io/json.h"
#include "io/tensors_internal.h"

#include <stdlib.h>
#include <string.h>

/* MAX_VALUES bounds what the JSON tree can take in memory; a real header has about ten values a
 * tensor. */
enum { HEADER_MAX = 100000000, MAX_VALUES = 8000000 };

typedef struct span {
    uint64_t begin, end;
    const char *name;
} span;

/* Types that exist in files but have no use here: such tensors are checked for place, not for
 * size. */
static const char *const other_dtypes[] = {"U16",         "U32",         "U64", "C64",
                                           "F8_E8M0",     "F8_E4M3FNUZ", "F4",  "F6_E2M3",
                                           "F8_E5M2FNUZ", "F6_E3M2"};

static bool known_elsewhere(const char *name)
{
    for (size_t i = 0; i < CN_COUNT(other_dtypes); i++)
        if (!strcmp(other_dtypes[i], name)) return true;
    return false;
}

static cn_dtype dtype_from_name(const char *name)
{
    for (int i = 0; i < CN_DTYPE_COUNT; i++)
        if (!strcmp(cn_dtype_name((cn_dtype)i), name)) return (cn_dtype)i;
    return CN_DTYPE_COUNT;
}

static cn_status parse_offsets(cn_ctx *ctx, const char *name, json_t *entry, uint64_t data_bytes,
                               span *out)
{
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return cn_fail(ctx, CN_EFORMAT, "tensor %.200s: data_offsets must be two integers", name);
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return cn_fail(
            ctx, CN_EFORMAT,
            "tensor %.200s: data_offsets [%lld, %lld] are outside the file's %llu bytes of "
            "data; the file is truncated or damaged",
            name, (long long)begin, (long long)end, (unsigned long long)data_bytes);
    *out = (span){(uint64_t)begin, (uint64_t)end, name};
    return CN_OK;
}

static cn_status parse_shape(cn_ctx *ctx, const char *name, json_t *shape, cn_tensor_info *info,
                             bool *fits)
{
    if (!json_is_array(shape))
        return cn_fail(ctx, CN_EFORMAT, "tensor %.200s: shape must be an array", name);
    size_t n = json_array_size(shape);
    *fits = n <= CN_MAX_DIMS;
    for (size_t i = 0; i < n; i++) {
        json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return cn_fail(ctx, CN_EFORMAT,
                           "tensor %.200s: dimension %zu must be an integer from 0 up", name, i);
        if (*fits) info->shape[i] = json_integer_value(d);
    }
    info->ndim = *fits ? (int)n : 0;
    return CN_OK;
}

static cn_status parse_tensor(cn_ctx *ctx, cn_tensors *t, const char *name, json_t *entry,
                              size_t data_at, span *place)
{
    cn_tensor_info info = {.name = name};
    size_t bytes;
    bool fits = false;
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return cn_fail(ctx, CN_EFORMAT, "tensor %.200s: no dtype", name);
    CN_TRY(parse_offsets(ctx, name, entry, t->n - data_at, place));
    CN_TRY(parse_shape(ctx, name, json_object_get(entry, "shape"), &info, &fits));
    info.dtype = dtype_from_name(dtype);
    if (info.dtype == CN_DTYPE_COUNT && !known_elsewhere(dtype))
        return cn_fail(ctx, CN_EFORMAT, "tensor %.200s: unknown dtype %.40s", name, dtype);
    if (info.dtype == CN_DTYPE_COUNT || !fits) {
        char why[48];
        if (fits)
            snprintf(why, sizeof why, "type %.40s", dtype);
        else
            snprintf(why, sizeof why, "more than %d dimensions", CN_MAX_DIMS);
        return cn_tensors_skip(ctx, t, name, strlen(name), why);
    }
    if (!cn_shape_size(info.shape, info.ndim, cn_dtype_bytes(info.dtype), &info.elements, &bytes))
        return cn_fail(ctx, CN_EFORMAT, "tensor %.200s: its shape is too large", name);
    if (bytes != place->end - place->begin)
        return cn_fail(ctx, CN_EFORMAT,
                       "tensor %.200s: data_offsets hold %llu bytes, shape and dtype need %zu",
                       name, (unsigned long long)(place->end - place->begin), bytes);
    cn_shape_strides(info.shape, info.ndim, info.stride);
    info.data = t->bytes + data_at + place->begin;
    return cn_tensors_add(ctx, t, &info, strlen(name));
}

static int by_place(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static cn_status check_cover(cn_ctx *ctx, span *spans, size_t n, uint64_t data_bytes)
{
    uint64_t at = 0;
    if (n > 1) qsort(spans, n, sizeof *spans, by_place);
    for (size_t i = 0; i < n; i++) {
        if (spans[i].begin != at)
            return cn_fail(ctx, CN_EFORMAT,
                           "tensor %.200s: its data %s at byte %llu, expected %llu", spans[i].name,
                           spans[i].begin < at ? "overlaps another tensor's" : "leaves a gap",
                           (unsigned long long)spans[i].begin, (unsigned long long)at);
        at = spans[i].end;
    }
    if (at != data_bytes)
        return cn_fail(ctx, CN_EFORMAT, "%llu bytes behind the last tensor belong to none",
                       (unsigned long long)(data_bytes - at));
    return CN_OK;
}

static cn_status take_metadata(cn_ctx *ctx, cn_tensors *t, json_t *meta)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta))
        return cn_fail(ctx, CN_EFORMAT, "__metadata__ must be an object of strings");
    json_object_foreach(meta, key, value)
    {
        if (!json_is_string(value))
            return cn_fail(ctx, CN_EFORMAT, "__metadata__.%.100s must be a string", key);
    }
    t->metadata = json_incref(meta);
    return CN_OK;
}

static cn_status take_entries(cn_ctx *ctx, cn_tensors *t, json_t *root, size_t data_at)
{
    const char *name;
    json_t *entry;
    size_t n = 0;
    cn_status s = CN_OK;
    span *spans = cn_alloc_array(ctx, json_object_size(root) + 1, sizeof *spans);
    if (!spans) return CN_ENOMEM;
    json_object_foreach(root, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            s = take_metadata(ctx, t, entry);
        else if (!json_is_object(entry))
            s = cn_fail(ctx, CN_EFORMAT, "tensor %.200s: its header entry must be an object", name);
        else
            s = parse_tensor(ctx, t, name, entry, data_at, &spans[n++]);
        if (s != CN_OK) break;
    }
    if (s == CN_OK) s = check_cover(ctx, spans, n, t->n - data_at);
    cn_free(spans);
    return s;
}

static bool plausible(const unsigned char *text, size_t n)
{
    size_t values = 0;
    for (size_t i = 0; i < n; i++) values += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return values <= MAX_VALUES;
}

cn_status cn_safetensors_parse(cn_ctx *ctx, cn_tensors *t)
{
    uint64_t len = 0;
    json_error_t err;
    for (int i = 7; i >= 0; i--) len = len << 8 | t->bytes[i];
    if (len > HEADER_MAX)
        return cn_fail(ctx, CN_EFORMAT, "header of %llu bytes; safetensors allows %d at most",
                       (unsigned long long)len, HEADER_MAX);
    if (len > t->n - 8)
        return cn_fail(
            ctx, CN_EFORMAT,
            "header of %llu bytes, but only %zu follow; the file is truncated or damaged",
            (unsigned long long)len, t->n - 8);
    if (!plausible(t->bytes + 8, (size_t)len))
        return cn_fail(ctx, CN_EFORMAT, "header with more than %d values", MAX_VALUES);
    /* Metadata may hold \\u0000, as any JSON text; names may not. */
    json_t *root = cn_json_parse((const char *)t->bytes + 8, (size_t)len,
                                 JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    if (!root)
        return cn_fail(ctx, CN_EFORMAT, "header: %s (byte %d)", cn_json_reason(&err), err.position);
    cn_status s = take_entries(ctx, t, root, 8 + (size_t)len);
    json_decref(root);
    return s;
}
