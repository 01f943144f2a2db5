/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors_write.c - writes safetensors atomically, one tensor in memory at a time.
 *
 * The header is padded with spaces so that the data starts at a multiple of 64 bytes; tensors
 * follow each other without gaps in the order given, as the format demands. Whether a dtype holds a
 * tensor shows when its values are there, and the header stands before them: where one doesn't,
 * the file is begun again.
 */
#include "io/tensors_internal.h"

#include "io/json_text.h"

#include <errno.h>
#include <string.h>

enum { DATA_ALIGN = 64, CHUNK = 1 << 18 }; /* CHUNK: elements converted at a time */

static bool float_type(cn_dtype t)
{
    return t == CN_F32 || t == CN_F16 || t == CN_BF16;
}

static cn_status check_tensor(cn_ctx *ctx, const cn_tensor_out *t, bool has_fill, size_t *bytes)
{
    int64_t elements;
    if (!t->name || !*t->name || !strcmp(t->name, "__metadata__"))
        return cn_fail(ctx, CN_EINVAL, "a tensor to write has no name that safetensors allows");
    if ((unsigned)t->dtype >= CN_DTYPE_COUNT || t->ndim < 0 || t->ndim > CN_MAX_DIMS ||
        !cn_shape_size(t->shape, t->ndim, cn_dtype_bytes(t->dtype), &elements, bytes))
        return cn_fail(ctx, CN_EINVAL, "tensor %.200s: its dtype or shape can't be written",
                       t->name);
    if (t->raw || elements == 0) return CN_OK;
    if (!t->data && !has_fill) return cn_fail(ctx, CN_EINVAL, "tensor %.200s: no data", t->name);
    if (!float_type(t->dtype))
        return cn_fail(ctx, CN_EINVAL, "tensor %.200s: floats can't be written as %s", t->name,
                       cn_dtype_name(t->dtype));
    return CN_OK;
}

static json_t *header_entry(const cn_tensor_out *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    bool good = shape != NULL;
    for (int i = 0; good && i < t->ndim; i++)
        good = json_array_append_new(shape, json_integer(t->shape[i])) == 0;
    if (!good) {
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", cn_dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static cn_status add_metadata(cn_ctx *ctx, json_t *root, const char *const *metadata)
{
    json_t *meta = json_object();
    if (json_object_set_new(root, "__metadata__", meta) != 0)
        return cn_fail(ctx, CN_ENOMEM, "no memory for the safetensors header");
    for (; metadata[0]; metadata += 2)
        if (!metadata[1] || json_object_set_new(meta, metadata[0], json_string(metadata[1])) != 0)
            return cn_fail(ctx, CN_EINVAL, "metadata %.100s: key and value must be UTF-8",
                           metadata[0]);
    return CN_OK;
}

static cn_status build_header(cn_ctx *ctx, const cn_tensor_out *list, int64_t n, bool has_fill,
                              const char *const *metadata, json_t *root)
{
    size_t at = 0, bytes;
    if (metadata && metadata[0]) CN_TRY(add_metadata(ctx, root, metadata));
    for (int64_t i = 0; i < n; i++) {
        CN_TRY(check_tensor(ctx, &list[i], has_fill, &bytes));
        if (bytes > PTRDIFF_MAX - at)
            return cn_fail(ctx, CN_EINVAL, "more bytes than a file can hold");
        if (json_object_get(root, list[i].name))
            return cn_fail(ctx, CN_EINVAL, "two tensors to write are named %.200s", list[i].name);
        json_t *entry = header_entry(&list[i], at, at + bytes);
        if (!entry) return cn_fail(ctx, CN_ENOMEM, "no memory for the safetensors header");
        if (json_object_set_new(root, list[i].name, entry) != 0)
            return cn_fail(ctx, CN_EINVAL, "tensor name %.200s is not UTF-8", list[i].name);
        at += bytes;
    }
    return CN_OK;
}

static cn_status put(cn_ctx *ctx, cn_file_writer *w, const void *bytes, size_t n)
{
    if (n == 0 || fwrite(bytes, 1, n, w->f) == n) return CN_OK;
    return cn_fail(ctx, CN_EIO, "%s: can't write: %s", w->path, strerror(errno));
}

static cn_status put_header(cn_ctx *ctx, cn_file_writer *w, const json_t *root)
{
    char *text = cn_json_text(root, JSON_COMPACT);
    if (!text) return cn_fail(ctx, CN_ENOMEM, "no memory for the safetensors header");
    size_t n = strlen(text), pad = (DATA_ALIGN - (8 + n) % DATA_ALIGN) % DATA_ALIGN;
    uint64_t len = n + pad;
    unsigned char prefix[8];
    char spaces[DATA_ALIGN];
    memset(spaces, ' ', sizeof spaces);
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)(len >> (8 * i));
    cn_status s = put(ctx, w, prefix, sizeof prefix);
    if (s == CN_OK) s = put(ctx, w, text, n);
    if (s == CN_OK) s = put(ctx, w, spaces, pad);
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    release(text);
    return s;
}

/* What a file is made of. The list is a copy: a tensor that its dtype can't hold becomes F32. */
typedef struct job {
    cn_ctx *ctx;
    const char *path;
    cn_tensor_out *list;
    int64_t n;
    cn_tensor_fill fill;
    void *user;
    unsigned char *chunk; /* CHUNK converted elements */
    float *values;        /* the tensor that the callback fills */
    size_t cap;           /* floats in values */
    cn_str beyond;        /* what became F32: the first names, in words */
    int64_t n_beyond;
} job;

enum { MAX_NAMED = 5 };

/* Whether all of src fits into the tensor's dtype; notes the tensor otherwise. */
static bool in_range(job *j, cn_tensor_out *t, const float *src, size_t n)
{
    if (t->dtype == CN_F32) return true;
    const float most = cn_largest(CN_F32, src, n);
    if (most < cn_dtype_limit(t->dtype)) return true;
    if (j->n_beyond++ < MAX_NAMED)
        cn_str_addf(&j->beyond, "%s%s (%g, beyond %s)", j->n_beyond > 1 ? ", " : "", t->name,
                    (double)most, cn_dtype_name(t->dtype));
    t->dtype = CN_F32;
    return false;
}

static cn_status put_floats(job *j, cn_file_writer *w, cn_tensor_out *t, const float *src, size_t n)
{
    const size_t bytes = cn_dtype_bytes(t->dtype);
    /* Once a tensor didn't fit the file is written again, and this pass finds the others. */
    if (!in_range(j, t, src, n) || j->n_beyond) return CN_OK;
    if (t->dtype == CN_F32) return put(j->ctx, w, src, n * sizeof *src);
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = CN_MIN((size_t)CHUNK, n - i);
        cn_from_f32(t->dtype, src + i, j->chunk, m);
        CN_TRY(put(j->ctx, w, j->chunk, m * bytes));
    }
    return CN_OK;
}

static cn_status put_tensor(job *j, cn_file_writer *w, int64_t i)
{
    cn_tensor_out *t = &j->list[i];
    int64_t elements;
    size_t bytes;
    if (!cn_shape_size(t->shape, t->ndim, cn_dtype_bytes(t->dtype), &elements, &bytes))
        return cn_fail(j->ctx, CN_EINTERNAL, "tensor %.200s changed while it was written", t->name);
    if (elements == 0) return CN_OK;
    if (t->raw) return put(j->ctx, w, t->raw, bytes);
    if (t->data) return put_floats(j, w, t, t->data, (size_t)elements);
    if ((size_t)elements > j->cap) {
        cn_free(j->values);
        j->cap = 0;
        j->values = cn_alloc_array(j->ctx, (size_t)elements, sizeof *j->values);
        if (!j->values) return CN_ENOMEM;
        j->cap = (size_t)elements;
    }
    CN_TRY(j->fill(j->user, i, j->values));
    return put_floats(j, w, t, j->values, (size_t)elements);
}

/* The file is at its place unless n_beyond says that it must be written again. */
static cn_status put_all(job *j, const json_t *root)
{
    cn_file_writer w;
    CN_TRY(cn_writer_open(j->ctx, j->path, &w));
    cn_status s = put_header(j->ctx, &w, root);
    for (int64_t i = 0; i < j->n && s == CN_OK; i++) {
        if (cn_cancelled(j->ctx))
            s = cn_fail(j->ctx, CN_ECANCELLED, "%s: cancelled while writing", j->path);
        else
            s = put_tensor(j, &w, i);
    }
    if (s == CN_OK && !j->n_beyond) return cn_writer_commit(j->ctx, &w);
    cn_writer_abort(&w);
    return s;
}

static cn_status write_once(job *j, const char *const *metadata)
{
    json_t *root = json_object();
    if (!root) return cn_fail(j->ctx, CN_ENOMEM, "no memory for the safetensors header");
    cn_status s = build_header(j->ctx, j->list, j->n, j->fill != NULL, metadata, root);
    if (s == CN_OK) s = put_all(j, root);
    json_decref(root);
    return s;
}

static void name_beyond(const job *j)
{
    char more[48] = "";
    if (j->n_beyond > MAX_NAMED)
        snprintf(more, sizeof more, " and %lld more", (long long)(j->n_beyond - MAX_NAMED));
    cn_log(j->ctx, CN_LOG_WARN, "%s: %lld tensor%s written as F32: %s%s", j->path,
           (long long)j->n_beyond, j->n_beyond == 1 ? " is" : "s are",
           j->beyond.data ? j->beyond.data : "", more);
}

cn_status cn_safetensors_write(cn_ctx *ctx, const char *path, const cn_tensor_out *list, int64_t n,
                               cn_tensor_fill fill, void *user, const char *const *metadata)
{
    job j = {.ctx = ctx, .path = path, .n = n, .fill = fill, .user = user};
    j.list = cn_alloc_array(ctx, (size_t)n + 1, sizeof *j.list);
    j.chunk = cn_alloc(ctx, CHUNK * sizeof(uint16_t));
    cn_status s = j.list && j.chunk ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        if (n) memcpy(j.list, list, (size_t)n * sizeof *list);
        s = write_once(&j, metadata);
    }
    if (s == CN_OK && j.n_beyond) {
        name_beyond(&j);
        j.n_beyond = 0;
        s = write_once(&j, metadata);
    }
    cn_str_free(&j.beyond);
    cn_free(j.values);
    cn_free(j.chunk);
    cn_free(j.list);
    return s;
}
