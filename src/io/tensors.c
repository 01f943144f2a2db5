/* SPDX-License-Identifier: Apache-2.0 */
/* tensors.c - the part of tensors.h that doesn't depend on the format: mapping, detection, lookup,
 * reading.
 *
 * Invariant: once open returns, every info in the list lies inside the mapped bytes, whatever its
 * strides.
 */
#include "io/tensors_internal.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool cn_shape_size(const int64_t *shape, int ndim, size_t elem_bytes, int64_t *elements,
                   size_t *bytes)
{
    bool empty = false;
    int64_t n = 1;
    size_t b;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0) return false;
        empty = empty || shape[i] == 0;
    }
    for (int i = 0; i < ndim && !empty; i++)
        if (__builtin_mul_overflow(n, shape[i], &n)) return false;
    if (empty) n = 0;
    if (!cn_mul_size((size_t)n, elem_bytes, &b) || b > PTRDIFF_MAX) return false;
    *elements = n;
    *bytes = b;
    return true;
}

void cn_shape_strides(const int64_t *shape, int ndim, int64_t *stride)
{
    /* An empty tensor's outer strides could overflow and are never followed. */
    int64_t n = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        stride[i] = n;
        if (__builtin_mul_overflow(n, shape[i], &n)) n = 0;
    }
}

cn_status cn_tensors_add(cn_ctx *ctx, cn_tensors *t, const cn_tensor_info *info, size_t name_len)
{
    size_t bytes;
    if (t->count == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        cn_tensor_info *list = cn_regrow(ctx, t->list, t->count * sizeof *list, cap * sizeof *list);
        if (!list) return CN_ENOMEM;
        t->list = list;
        t->cap = cap;
    }
    cn_tensor_info *e = &t->list[t->count];
    *e = *info;
    if (!cn_shape_size(e->shape, e->ndim, cn_dtype_bytes(e->dtype), &e->elements, &bytes))
        return cn_fail(ctx, CN_EFORMAT, "tensor %.*s: its shape is too large",
                       (int)CN_MIN(name_len, (size_t)200), info->name);
    char *name = cn_alloc(ctx, name_len + 1);
    if (!name) return CN_ENOMEM;
    memcpy(name, info->name, name_len);
    name[name_len] = 0;
    e->name = name;
    t->count++;
    return CN_OK;
}

cn_status cn_tensors_skip(cn_ctx *ctx, cn_tensors *t, const char *name, size_t name_len,
                          const char *why)
{
    if (t->n_skipped == t->skipped_cap) {
        const size_t cap = t->skipped_cap ? 2 * t->skipped_cap : 64;
        cn_skipped *list =
            cn_regrow(ctx, t->skipped, t->n_skipped * sizeof *list, cap * sizeof *list);
        if (!list) return CN_ENOMEM;
        t->skipped = list;
        t->skipped_cap = cap;
    }
    cn_skipped *e = &t->skipped[t->n_skipped];
    if (!(e->name = cn_alloc(ctx, name_len + 1))) return CN_ENOMEM;
    memcpy(e->name, name, name_len);
    e->name[name_len] = 0;
    snprintf(e->why, sizeof e->why, "%s", why);
    t->n_skipped++;
    return CN_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cn_tensor_info *)a)->name, ((const cn_tensor_info *)b)->name);
}

static int by_skipped_name(const void *a, const void *b)
{
    return strcmp(((const cn_skipped *)a)->name, ((const cn_skipped *)b)->name);
}

/* What the elements of an 8-bit weight NAME.weight count in, where the file says it. */
static const cn_tensor_info *scale_beside(const cn_tensors *t, const cn_tensor_info *w)
{
    static const char weight[] = ".weight";
    static const char *const endings[] = {".scale_weight", ".weight_scale"};
    char name[512];
    const size_t n = strlen(w->name), k = sizeof weight - 1;
    if (n <= k || strcmp(w->name + n - k, weight) != 0) return NULL;
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        const int length = snprintf(name, sizeof name, "%.*s%s", (int)(n - k), w->name, endings[i]);
        const cn_tensor_info *found =
            length > 0 && (size_t)length < sizeof name ? cn_tensors_find(t, name) : NULL;
        if (found) return found;
    }
    return NULL;
}

/* Needs sorted names. */
static cn_status find_scales(cn_ctx *ctx, cn_tensors *t)
{
    for (size_t i = 0; i < t->count; i++) {
        cn_tensor_info *w = &t->list[i];
        w->scale = NULL;
        if (w->dtype != CN_F8_E4M3 && w->dtype != CN_F8_E5M2 && w->dtype != CN_I8) continue;
        const cn_tensor_info *s = scale_beside(t, w);
        if (!s) continue;
        const int64_t rows = w->ndim ? w->shape[0] : 1;
        if ((s->elements != 1 && s->elements != rows) || !cn_tensor_contiguous(s))
            return cn_fail(ctx, CN_EFORMAT,
                           "%.200s has %lld numbers for the %lld rows of %.200s; one, or one a "
                           "row, is expected",
                           s->name, (long long)s->elements, (long long)rows, w->name);
        w->scale = s;
    }
    return CN_OK;
}

static cn_status sort_names(cn_ctx *ctx, cn_tensors *t)
{
    if (t->count > 1) qsort(t->list, t->count, sizeof *t->list, by_name);
    if (t->n_skipped > 1) qsort(t->skipped, t->n_skipped, sizeof *t->skipped, by_skipped_name);
    for (size_t i = 1; i < t->count; i++)
        if (!strcmp(t->list[i - 1].name, t->list[i].name))
            return cn_fail(ctx, CN_EFORMAT, "two tensors are named %.200s", t->list[i].name);
    return find_scales(ctx, t);
}

static bool starts_with(const cn_tensors *t, const char *magic, size_t n)
{
    return t->n >= n && !memcmp(t->bytes, magic, n);
}

/* A file that is neither format: name what it is where that helps. */
static cn_status refuse_format(cn_ctx *ctx, const cn_tensors *t)
{
    if (t->n == 0) return cn_fail(ctx, CN_EFORMAT, "the file is empty");
    bool pickle = t->n > 2 && t->bytes[0] == 0x80 && t->bytes[1] >= 1 && t->bytes[1] <= 5;
    bool tar = t->n > 262 && !memcmp(t->bytes + 257, "ustar", 5);
    if (pickle || tar)
        return cn_fail(
            ctx, CN_EFORMAT,
            "this is %s, which is not read; load it with torch and save it again, best as "
            "safetensors",
            tar ? "torch.save's tar format of before 0.1" : "a pickle, but not torch.save's");
    if (starts_with(t, "version https://git-lfs", 23))
        return cn_fail(ctx, CN_EFORMAT,
                       "this is a git-lfs pointer, not the weights; run git lfs pull");
    if (t->bytes[0] == '<')
        return cn_fail(ctx, CN_EFORMAT,
                       "this looks like a web page, not weights; download it again");
    return cn_fail(ctx, CN_EFORMAT, "not a safetensors file, torch checkpoint or GGUF file");
}

static cn_status parse(cn_ctx *ctx, cn_tensors *t)
{
    if (starts_with(t, "PK\3\4", 4) || starts_with(t, "PK\5\6", 4)) {
        t->format = "torch zip";
        CN_TRY(cn_torchzip_parse(ctx, t));
    } else if (starts_with(t, "GGUF", 4)) {
        t->format = "gguf";
        CN_TRY(cn_gguf_parse(ctx, t));
    } else if (cn_is_torchpickle(t->bytes, t->n)) {
        t->format = "torch pickle";
        CN_TRY(cn_torchpickle_parse(ctx, t));
    } else if (t->n >= 9 && t->bytes[8] == '{') {
        t->format = "safetensors";
        CN_TRY(cn_safetensors_parse(ctx, t));
    } else {
        return refuse_format(ctx, t);
    }
    return sort_names(ctx, t);
}

cn_status cn_tensors_open_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_tensors **out)
{
    cn_tensors *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    t->bytes = bytes;
    t->n = n;
    cn_status s = parse(ctx, t);
    if (s != CN_OK) {
        cn_tensors_close(t);
        return s;
    }
    *out = t;
    return CN_OK;
}

static cn_status map_file(cn_ctx *ctx, const char *path, cn_tensors *t)
{
    cn_status s = CN_OK;
    struct stat st;
    int fd = cn_sys_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return cn_fail(ctx, CN_EIO, "can't open it: %s", strerror(errno));
    if (fstat(fd, &st) != 0) {
        s = cn_fail(ctx, CN_EIO, "can't read it: %s", strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        s = cn_fail(ctx, CN_EIO, "this is a folder; a file of weights is needed");
    } else if (!S_ISREG(st.st_mode)) {
        s = cn_fail(ctx, CN_EIO, "not a regular file, so it can't be mapped");
    } else if (st.st_size > 0) {
        void *p = cn_sys_map(fd, (size_t)st.st_size);
        if (!p) {
            s = cn_fail(ctx, CN_EIO, "can't map it: %s", strerror(errno));
        } else {
            t->bytes = p;
            t->n = (size_t)st.st_size;
            t->mapped = true;
        }
    }
    close(fd);
    return s;
}

cn_status cn_tensors_open(cn_ctx *ctx, const char *path, cn_tensors **out)
{
    cn_tensors *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    cn_status s = map_file(ctx, path, t);
    if (s == CN_OK) s = parse(ctx, t);
    if (s != CN_OK) {
        cn_tensors_close(t);
        return cn_fail_prefix(ctx, s, "%s", path);
    }
    *out = t;
    return CN_OK;
}

static cn_status add_all(cn_ctx *ctx, cn_tensors *t, const cn_tensors *part, const char *prefix)
{
    cn_str name = {0};
    cn_status s = CN_OK;
    for (size_t i = 0; s == CN_OK && i < part->count; i++) {
        cn_tensor_info info = part->list[i];
        name.len = 0;
        cn_str_addf(&name, "%s%s", prefix, info.name);
        info.name = name.data;
        s = name.failed ? CN_ENOMEM : cn_tensors_add(ctx, t, &info, name.len);
    }
    for (size_t i = 0; s == CN_OK && i < part->n_skipped; i++) {
        name.len = 0;
        cn_str_addf(&name, "%s%s", prefix, part->skipped[i].name);
        s = name.failed ? CN_ENOMEM
                        : cn_tensors_skip(ctx, t, name.data, name.len, part->skipped[i].why);
    }
    t->format = part->format;
    cn_str_free(&name);
    return s;
}

cn_status cn_tensors_join(cn_ctx *ctx, cn_tensors **parts, int n, cn_tensors **out)
{
    return cn_tensors_join_as(ctx, parts, NULL, n, out);
}

cn_status cn_tensors_join_as(cn_ctx *ctx, cn_tensors **parts, const char *const *prefixes, int n,
                             cn_tensors **out)
{
    cn_tensors *t = cn_alloc0(ctx, sizeof *t);
    cn_tensors **owned = cn_alloc_array(ctx, (size_t)n, sizeof(cn_tensors *));
    if (!t || !owned) {
        for (int i = 0; i < n; i++) cn_tensors_close(parts[i]);
        cn_free(owned);
        cn_free(t);
        return CN_ENOMEM;
    }
    memcpy(owned, parts, (size_t)n * sizeof(cn_tensors *));
    t->parts = owned;
    t->n_parts = n;
    cn_status s = CN_OK;
    for (int i = 0; s == CN_OK && i < n; i++)
        s = add_all(ctx, t, owned[i], prefixes ? prefixes[i] : "");
    if (s == CN_OK && n > 0) t->metadata = json_incref(owned[0]->metadata);
    if (s == CN_OK) s = sort_names(ctx, t);
    if (s != CN_OK) {
        cn_tensors_close(t);
        return s;
    }
    *out = t;
    return CN_OK;
}

void cn_tensors_close(cn_tensors *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->count; i++) cn_free((void *)(uintptr_t)t->list[i].name);
    cn_free(t->list);
    for (size_t i = 0; i < t->n_skipped; i++) cn_free(t->skipped[i].name);
    cn_free(t->skipped);
    for (int i = 0; i < t->n_parts; i++) cn_tensors_close(t->parts[i]);
    cn_free(t->parts);
    json_decref(t->metadata);
    if (t->mapped) munmap((void *)(uintptr_t)t->bytes, t->n);
    cn_free(t);
}

int64_t cn_tensors_count(const cn_tensors *t)
{
    return (int64_t)t->count;
}

int64_t cn_tensors_skipped(const cn_tensors *t)
{
    return (int64_t)t->n_skipped;
}

const char *cn_tensors_skipped_at(const cn_tensors *t, int64_t i)
{
    return i >= 0 && (size_t)i < t->n_skipped ? t->skipped[i].name : NULL;
}

const char *cn_tensors_skipped_why(const cn_tensors *t, const char *name)
{
    const cn_skipped wanted = {.name = (char *)(uintptr_t)name};
    const cn_skipped *e = t->n_skipped ? bsearch(&wanted, t->skipped, t->n_skipped,
                                                 sizeof *t->skipped, by_skipped_name)
                                       : NULL;
    return e ? e->why : NULL;
}

const char *cn_tensors_format(const cn_tensors *t)
{
    return t->format;
}

const cn_tensor_info *cn_tensors_at(const cn_tensors *t, int64_t i)
{
    return i >= 0 && (size_t)i < t->count ? &t->list[i] : NULL;
}

const cn_tensor_info *cn_tensors_find(const cn_tensors *t, const char *name)
{
    size_t lo = 0, hi = t->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(t->list[mid].name, name);
        if (c == 0) return &t->list[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

bool cn_tensors_have_prefix(const cn_tensors *t, const char *prefix)
{
    size_t n = strlen(prefix);
    for (int64_t i = 0; i < cn_tensors_count(t); i++)
        if (!strncmp(cn_tensors_at(t, i)->name, prefix, n)) return true;
    for (size_t i = 0; i < t->n_skipped; i++)
        if (!strncmp(t->skipped[i].name, prefix, n)) return true;
    return false;
}

const char *cn_tensors_metadata(const cn_tensors *t, const char *key)
{
    return t->metadata ? json_string_value(json_object_get(t->metadata, key)) : NULL;
}

bool cn_tensor_contiguous(const cn_tensor_info *info)
{
    int64_t expected = 1;
    if (info->elements <= 1) return true;
    for (int i = info->ndim - 1; i >= 0; i--) {
        if (info->shape[i] == 1) continue;
        if (info->stride[i] != expected) return false;
        expected *= info->shape[i];
    }
    return true;
}

/* n elements, `stride` elements apart, to floats. */
static void read_row(cn_dtype dtype, const unsigned char *src, int64_t stride, int64_t n,
                     float *out)
{
    enum { CHUNK = 256 };
    unsigned char gathered[CHUNK * 8];
    size_t bytes = cn_dtype_bytes(dtype);
    if (stride == 1) {
        cn_to_f32(dtype, src, out, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t m = CN_MIN((int64_t)CHUNK, n - i);
        for (int64_t j = 0; j < m; j++)
            memcpy(gathered + (size_t)j * bytes, src + (size_t)((i + j) * stride) * bytes, bytes);
        cn_to_f32(dtype, gathered, out + i, (size_t)m);
    }
}

static void read_strided(const cn_tensor_info *info, float *out)
{
    /* Left-padded to four dimensions so that one loop nest serves all. */
    int64_t shape[CN_MAX_DIMS] = {1, 1, 1, 1}, stride[CN_MAX_DIMS] = {0};
    int pad = CN_MAX_DIMS - info->ndim;
    for (int i = 0; i < info->ndim; i++) {
        shape[pad + i] = info->shape[i];
        stride[pad + i] = info->stride[i];
    }
    size_t bytes = cn_dtype_bytes(info->dtype);
    for (int64_t a = 0; a < shape[0]; a++)
        for (int64_t b = 0; b < shape[1]; b++)
            for (int64_t c = 0; c < shape[2]; c++, out += shape[3]) {
                int64_t at = a * stride[0] + b * stride[1] + c * stride[2];
                read_row(info->dtype, (const unsigned char *)info->data + (size_t)at * bytes,
                         stride[3], shape[3], out);
            }
}

cn_status cn_tensors_read(cn_ctx *ctx, const cn_tensors *t, const cn_tensor_info *info, float *out)
{
    return cn_tensors_read_rows(ctx, t, info, 0, info && info->ndim ? info->shape[0] : 1, out);
}

/* The file that bytes are mapped from, t or one of its parts; NULL for the caller's memory. */
static const cn_tensors *mapping_of(const cn_tensors *t, const unsigned char *bytes)
{
    for (int i = 0; i < t->n_parts; i++) {
        const cn_tensors *part = t->parts[i];
        if (part->mapped && bytes >= part->bytes && bytes < part->bytes + part->n) return part;
    }
    return t->mapped ? t : NULL;
}

void cn_tensors_let_go(const cn_tensors *t, const void *bytes, size_t n)
{
    const cn_tensors *file = mapping_of(t, bytes);
    if (!file) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)bytes & ~(page - 1);
    const uintptr_t end =
        CN_MIN(((uintptr_t)bytes + n + page - 1) & ~(page - 1), (uintptr_t)(file->bytes + file->n));
    /* what fails here costs memory alone */
    (void)madvise((void *)from, end - from, MADV_DONTNEED);
}

const void *cn_tensor_rows(const cn_tensor_info *info, int64_t first, int64_t n, size_t *bytes)
{
    bool floats = info->dtype == CN_F32 || info->dtype == CN_F16 || info->dtype == CN_BF16;
    if (!floats || !cn_tensor_contiguous(info)) return NULL;
    int64_t rows = info->ndim ? info->shape[0] : 1, each = rows ? info->elements / rows : 0;
    size_t one = cn_dtype_bytes(info->dtype);
    *bytes = (size_t)(n * each) * one;
    return (const char *)info->data + (size_t)(first * each) * one;
}

/* out: rows first .. first+n of info. */
static void apply_scale(const cn_tensor_info *info, int64_t first, int64_t n, float *out)
{
    const int64_t each = info->ndim ? info->elements / info->shape[0] : 1;
    const cn_tensor_info *s = info->scale;
    for (int64_t r = 0; r < n; r++) {
        float scale;
        const size_t at = s->elements == 1 ? 0 : (size_t)(first + r) * cn_dtype_bytes(s->dtype);
        cn_to_f32(s->dtype, (const unsigned char *)s->data + at, &scale, 1);
        for (int64_t i = 0; i < each; i++) out[r * each + i] *= scale;
    }
}

cn_status cn_tensors_read_rows(cn_ctx *ctx, const cn_tensors *t, const cn_tensor_info *info,
                               int64_t first, int64_t n, float *out)
{
    if (!info || info < t->list || info >= t->list + t->count)
        return cn_fail(ctx, CN_EINVAL, "cn_tensors_read: the tensor is not from this file");
    int64_t rows = info->ndim ? info->shape[0] : 1;
    if (first < 0 || n < 0 || first > rows || n > rows - first)
        return cn_fail(ctx, CN_EINVAL, "%s: rows %lld to %lld of %lld", info->name,
                       (long long)first, (long long)(first + n), (long long)rows);
    if (info->elements == 0 || n == 0) return CN_OK;
    cn_tensor_info some = *info;
    if (some.ndim) some.shape[0] = n;
    some.elements = info->elements / rows * n;
    some.data = (const unsigned char *)info->data +
                cn_dtype_size(info->dtype, info->ndim ? first * info->stride[0] : 0);
    if (!cn_tensor_contiguous(&some)) {
        read_strided(&some, out);
    } else {
        cn_to_f32(some.dtype, some.data, out, (size_t)some.elements);
        cn_tensors_let_go(t, some.data, cn_dtype_size(some.dtype, some.elements));
    }
    if (info->scale) apply_scale(info, first, n, out);
    return CN_OK;
}
