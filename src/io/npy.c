/* SPDX-License-Identifier: Apache-2.0 */
/* npy.c - see npy.h. The header is the text of a Python dictionary with three known keys; anything
 * else in it is refused. */
#include "io/npy.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 30, MAX_HEADER = 1 << 16, MAGIC_BYTES = 6 };

typedef struct header {
    char kind; /* 'f', 'i', 'u', 'b' */
    int bytes;
    bool big_endian, fortran;
    int ndim;
    int64_t shape[CN_NPY_MAX_DIMS];
    bool has_type, has_order, has_shape;
} header;

typedef struct text {
    cn_ctx *ctx;
    const char *p, *end;
} text;

static char peek(text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\n' || *t->p == '\t')) t->p++;
    return t->p < t->end ? *t->p : 0;
}

static bool take(text *t, char c)
{
    if (peek(t) != c) return false;
    t->p++;
    return true;
}

static bool take_word(text *t, const char *word)
{
    const size_t n = strlen(word);
    (void)peek(t);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0) return false;
    t->p += n;
    return true;
}

/* 'text' or "text" into out, 0-terminated. */
static bool take_string(text *t, char *out, size_t cap)
{
    const char quote = peek(t);
    size_t n = 0;
    if (quote != '\'' && quote != '"') return false;
    for (t->p++; t->p < t->end && *t->p != quote && n + 1 < cap; t->p++) out[n++] = *t->p;
    out[n] = 0;
    return take(t, quote);
}

static cn_status parse_type(text *t, header *h)
{
    char s[32] = "";
    if (!take_string(t, s, sizeof s))
        return cn_fail(t->ctx, CN_EFORMAT, "an .npy array of records; one of numbers is expected");
    h->big_endian = s[0] == '>';
    const char *type = strchr("<>|=", s[0]) ? s + 1 : s;
    h->kind = type[0];
    h->bytes = type[0] && type[1] >= '1' && type[1] <= '8' && !type[2] ? type[1] - '0' : 0;
    const bool whole = h->kind == 'i' || h->kind == 'u';
    const bool known = h->kind == 'f' ? h->bytes == 2 || h->bytes == 4 || h->bytes == 8
                       : whole        ? !(h->bytes & (h->bytes - 1))
                                      : h->kind == 'b' && h->bytes == 1;
    if (!known || !h->bytes)
        return cn_fail(t->ctx, CN_EFORMAT,
                       "an .npy array of type '%s'; bool, integers and floats are read", s);
    h->has_type = true;
    return CN_OK;
}

static cn_status parse_shape(text *t, header *h)
{
    h->ndim = 0;
    if (!take(t, '(')) return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: no shape");
    while (!take(t, ')')) {
        int64_t n = 0;
        if (h->ndim == CN_NPY_MAX_DIMS)
            return cn_fail(t->ctx, CN_EFORMAT, "an .npy array of more than %d dimensions",
                           CN_NPY_MAX_DIMS);
        if (peek(t) < '0' || peek(t) > '9')
            return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: its shape");
        while (t->p < t->end && *t->p >= '0' && *t->p <= '9' && n <= CN_NPY_MAX_ELEMENTS)
            n = 10 * n + (*t->p++ - '0');
        h->shape[h->ndim++] = n;
        if (!take(t, ',') && peek(t) != ')')
            return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: its shape");
    }
    h->has_shape = true;
    return CN_OK;
}

static cn_status parse_entry(text *t, header *h)
{
    char key[32];
    if (!take_string(t, key, sizeof key) || !take(t, ':'))
        return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: no dictionary");
    if (strcmp(key, "descr") == 0) return parse_type(t, h);
    if (strcmp(key, "shape") == 0) return parse_shape(t, h);
    if (strcmp(key, "fortran_order") != 0)
        return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: unknown key '%s'", key);
    h->fortran = take_word(t, "True");
    if (!h->fortran && !take_word(t, "False"))
        return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: fortran_order");
    h->has_order = true;
    return CN_OK;
}

static cn_status parse_header(text *t, header *h)
{
    if (!take(t, '{')) return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: no dictionary");
    while (!take(t, '}')) {
        CN_TRY(parse_entry(t, h));
        if (!take(t, ',') && peek(t) != '}')
            return cn_fail(t->ctx, CN_EFORMAT, "damaged .npy header: no comma");
    }
    if (peek(t) || !h->has_type || !h->has_order || !h->has_shape)
        return cn_fail(t->ctx, CN_EFORMAT,
                       "damaged .npy header: descr, fortran_order and shape are expected");
    return CN_OK;
}

/* --- values ----------------------------------------------------------------------------------- */

static double half_value(uint64_t bits)
{
    const int exponent = (int)(bits >> 10 & 31);
    const double part = (double)(bits & 1023), sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) return part != 0 ? (double)__builtin_nan("") : sign * __builtin_inf();
    if (exponent == 0) return sign * __builtin_ldexp(part, -24);
    return sign * __builtin_ldexp(1024 + part, exponent - 25);
}

static double value_of(const header *h, const uint8_t *p)
{
    uint64_t bits = 0;
    for (int i = 0; i < h->bytes; i++)
        bits |= (uint64_t)p[i] << 8 * (h->big_endian ? h->bytes - 1 - i : i);
    if (h->kind == 'f') {
        double d;
        float f;
        const uint32_t low = (uint32_t)bits;
        if (h->bytes == 2) return half_value(bits);
        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &low, sizeof f);
        return h->bytes == 8 ? d : (double)f;
    }
    if (h->kind == 'b') return bits != 0;
    const int unused = 64 - 8 * h->bytes;
    return h->kind == 'i' ? (double)((int64_t)(bits << unused) >> unused) : (double)bits;
}

/* Where element i of C order stands in the file. */
static int64_t place_of(const cn_npy *a, const header *h, int64_t i)
{
    if (!h->fortran) return i;
    int64_t place = 0, step[CN_NPY_MAX_DIMS] = {1};
    for (int d = 1; d < a->ndim; d++) step[d] = step[d - 1] * a->shape[d - 1];
    for (int d = a->ndim - 1; d >= 0; d--) {
        place += i % a->shape[d] * step[d];
        i /= a->shape[d];
    }
    return place;
}

static cn_status read_values(cn_ctx *ctx, const header *h, const uint8_t *bytes, size_t n,
                             cn_npy *a)
{
    a->ndim = h->ndim;
    a->elements = 1;
    a->single = h->kind == 'f' && h->bytes < 8;
    for (int d = 0; d < h->ndim; d++) {
        a->shape[d] = h->shape[d];
        if (__builtin_mul_overflow(a->elements, h->shape[d], &a->elements) ||
            a->elements > CN_NPY_MAX_ELEMENTS)
            return cn_fail(ctx, CN_EFORMAT, "an .npy array of more than %d elements",
                           CN_NPY_MAX_ELEMENTS);
    }
    if (n < (size_t)a->elements * (size_t)h->bytes)
        return cn_fail(ctx, CN_EFORMAT,
                       "a truncated .npy file: %zu bytes of values, %zu are expected", n,
                       (size_t)a->elements * (size_t)h->bytes);
    a->values = cn_alloc(ctx, (size_t)CN_MAX(a->elements, 1) * sizeof *a->values);
    if (!a->values) return CN_ENOMEM;
    for (int64_t i = 0; i < a->elements; i++)
        a->values[i] = value_of(h, bytes + place_of(a, h, i) * h->bytes);
    return CN_OK;
}

cn_status cn_npy_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_npy **out)
{
    const uint8_t *p = bytes;
    header h = {0};
    if (n < MAGIC_BYTES + 4 || memcmp(p, "\x93NUMPY", MAGIC_BYTES) != 0)
        return cn_fail(ctx, CN_EFORMAT, "not an .npy file");
    const int version = p[MAGIC_BYTES];
    const size_t begin = version == 1 ? 10 : 12;
    if (version < 1 || version > 3 || n < begin)
        return cn_fail(ctx, CN_EFORMAT, "an .npy file of version %d; 1 to 3 are read", version);
    size_t length = (size_t)p[8] | (size_t)p[9] << 8;
    if (version > 1) length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (length > MAX_HEADER || length > n - begin)
        return cn_fail(ctx, CN_EFORMAT, "a truncated .npy file: its header");
    text t = {ctx, (const char *)p + begin, (const char *)p + begin + length};
    CN_TRY(parse_header(&t, &h));
    cn_npy *a = cn_alloc0(ctx, sizeof *a);
    if (!a) return CN_ENOMEM;
    cn_status s = read_values(ctx, &h, p + begin + length, n - begin - length, a);
    if (s != CN_OK) {
        cn_npy_free(a);
        return s;
    }
    *out = a;
    return CN_OK;
}

cn_status cn_npy_load(cn_ctx *ctx, const char *path, cn_npy **out)
{
    char *data = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, MAX_FILE, &data, &n));
    cn_status s = cn_npy_load_memory(ctx, data, n, out);
    cn_free(data);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}

void cn_npy_free(cn_npy *a)
{
    if (!a) return;
    cn_free(a->values);
    cn_free(a);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The values begin at a multiple of 64, as numpy wants it. */
cn_status cn_npy_add(cn_ctx *ctx, cn_str *out, cn_dtype type, int ndim, const int64_t *shape,
                     const void *values)
{
    cn_str head = {0};
    size_t elements = 1;
    cn_str_addf(&head, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                type == CN_I32 ? "<i4" : "<f4");
    for (int i = 0; i < ndim; i++) {
        cn_str_addf(&head, "%lld,", (long long)shape[i]);
        elements *= (size_t)shape[i];
    }
    cn_str_adds(&head, "), }");
    const size_t begin = MAGIC_BYTES + 4, all = (begin + head.len + 1 + 63) / 64 * 64;
    const char lead[] = {1, 0, (char)((all - begin) & 0xff), (char)((all - begin) >> 8)};
    while (!head.failed && head.len < all - begin - 1) cn_str_add(&head, " ", 1);
    cn_str_add(&head, "\n", 1);
    cn_str_add(out, "\x93NUMPY", MAGIC_BYTES);
    cn_str_add(out, lead, sizeof lead);
    cn_str_add(out, head.data ? head.data : "", head.len);
    cn_str_add(out, values, elements * cn_dtype_bytes(type));
    const bool failed = head.failed || out->failed;
    cn_str_free(&head);
    return failed ? cn_fail(ctx, CN_ENOMEM, "no memory for an .npy file") : CN_OK;
}
