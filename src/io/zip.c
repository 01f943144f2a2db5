/* SPDX-License-Identifier: Apache-2.0 */
/* zip.c - reads a zip file's central directory (zip64 included).
 *
 * Own code because tensors are used in place, from the mapping: that needs each entry's offset,
 * which libzip doesn't give. Only stored entries have data here; torch.save never compresses.
 * Invariant: every entry's bytes lie before the central directory. Checksums aren't verified.
 */
#include "io/zip.h"

#include <stdlib.h>
#include <string.h>

enum {
    EOCD_BYTES = 22,
    LOCATOR_BYTES = 20,
    EOCD64_BYTES = 56,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_ENTRIES = 1000000
};

typedef struct directory {
    uint64_t at, bytes, count;
} directory;

static uint64_t le(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

/* The end record lies in the last 64 KB + 22 bytes: a comment may follow it. */
static const unsigned char *find_end(const unsigned char *bytes, size_t n)
{
    if (n < EOCD_BYTES) return NULL;
    size_t lowest = n > EOCD_BYTES + 65535 ? n - EOCD_BYTES - 65535 : 0;
    for (size_t at = n - EOCD_BYTES + 1; at-- > lowest;)
        if (!memcmp(bytes + at, "PK\5\6", 4) && at + EOCD_BYTES + le(bytes + at + 20, 2) == n)
            return bytes + at;
    return NULL;
}

static cn_status read_end64(cn_ctx *ctx, const unsigned char *bytes, const unsigned char *end,
                            directory *dir)
{
    size_t end_at = (size_t)(end - bytes);
    if (end_at < LOCATOR_BYTES || memcmp(end - LOCATOR_BYTES, "PK\6\7", 4) != 0) return CN_OK;
    uint64_t at = le(end - LOCATOR_BYTES + 8, 8);
    if (end_at < EOCD64_BYTES || at > end_at - EOCD64_BYTES || memcmp(bytes + at, "PK\6\6", 4) != 0)
        return cn_fail(ctx, CN_EFORMAT, "zip: the zip64 end record is damaged");
    dir->count = le(bytes + at + 32, 8);
    dir->bytes = le(bytes + at + 40, 8);
    dir->at = le(bytes + at + 48, 8);
    return CN_OK;
}

/* Sizes and offset that didn't fit in 32 bits stand in extra field 1, in this order. */
static bool read_extra64(const unsigned char *extra, size_t n, uint64_t *full, uint64_t *stored,
                         uint64_t *at)
{
    uint64_t *field[3] = {full, stored, at};
    bool need = false;
    for (int i = 0; i < 3; i++) need = need || *field[i] == 0xffffffffu;
    if (!need) return true;
    while (n >= 4) {
        size_t id = (size_t)le(extra, 2), len = (size_t)le(extra + 2, 2), used = 0;
        if (len > n - 4) return false;
        if (id == 1) {
            for (int i = 0; i < 3; i++) {
                if (*field[i] != 0xffffffffu) continue;
                if (len - used < 8) return false;
                *field[i] = le(extra + 4 + used, 8);
                used += 8;
            }
            return true;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return false;
}

/* One central record of `n` available bytes; its length comes back in *used. */
static cn_status read_entry(cn_ctx *ctx, const unsigned char *bytes, uint64_t dir_at,
                            const unsigned char *p, size_t n, cn_zip_entry *e, size_t *used)
{
    if (n < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return cn_fail(ctx, CN_EFORMAT, "zip: the central directory is damaged");
    size_t name_len = (size_t)le(p + 28, 2), extra = (size_t)le(p + 30, 2);
    *used = CENTRAL_BYTES + name_len + extra + (size_t)le(p + 32, 2);
    if (*used > n) return cn_fail(ctx, CN_EFORMAT, "zip: the central directory is damaged");
    e->name = (const char *)p + CENTRAL_BYTES;
    e->name_len = name_len;
    int shown = (int)CN_MIN(name_len, (size_t)200);
    uint64_t stored = le(p + 20, 4), full = le(p + 24, 4), at = le(p + 42, 4);
    if (le(p + 8, 2) & 1)
        return cn_fail(ctx, CN_EFORMAT, "zip: entry %.*s is encrypted", shown, e->name);
    if (!read_extra64(p + CENTRAL_BYTES + name_len, extra, &full, &stored, &at))
        return cn_fail(ctx, CN_EFORMAT, "zip: entry %.*s has no valid size", shown, e->name);
    if (dir_at < LOCAL_BYTES || at > dir_at - LOCAL_BYTES || memcmp(bytes + at, "PK\3\4", 4) != 0)
        return cn_fail(ctx, CN_EFORMAT, "zip: entry %.*s lies outside the file", shown, e->name);
    uint64_t data_at = at + LOCAL_BYTES + le(bytes + at + 26, 2) + le(bytes + at + 28, 2);
    if (data_at > dir_at || stored > dir_at - data_at)
        return cn_fail(ctx, CN_EFORMAT,
                       "zip: entry %.*s claims %llu bytes, more than the file holds", shown,
                       e->name, (unsigned long long)stored);
    if (le(p + 10, 2) != 0) return CN_OK; /* compressed: listed without data */
    if (stored != full)
        return cn_fail(ctx, CN_EFORMAT, "zip: entry %.*s is stored, but its two sizes differ",
                       shown, e->name);
    e->data = bytes + data_at;
    e->n = (size_t)stored;
    return CN_OK;
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t n = CN_MIN(a_len, b_len);
    int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
    const cn_zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_len, y->name, y->name_len);
}

static cn_status read_entries(cn_ctx *ctx, const unsigned char *bytes, const directory *dir,
                              cn_zip *zip)
{
    const unsigned char *p = bytes + dir->at;
    size_t left = (size_t)dir->bytes, used = 0;
    for (size_t i = 0; i < dir->count; i++, p += used, left -= used) {
        CN_TRY(read_entry(ctx, bytes, dir->at, p, left, &zip->entries[i], &used));
        zip->count++;
    }
    if (zip->count > 1) qsort(zip->entries, zip->count, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (by_name(&zip->entries[i - 1], &zip->entries[i]) == 0)
            return cn_fail(ctx, CN_EFORMAT, "zip: two entries are named %.*s",
                           (int)CN_MIN(zip->entries[i].name_len, (size_t)200),
                           zip->entries[i].name);
    return CN_OK;
}

cn_status cn_zip_parse(cn_ctx *ctx, const unsigned char *bytes, size_t n, cn_zip *out)
{
    cn_zip zip = {0};
    const unsigned char *end = find_end(bytes, n);
    if (!end)
        return cn_fail(ctx, CN_EFORMAT,
                       "zip: no central directory at the end; the file is truncated or damaged");
    directory dir = {le(end + 16, 4), le(end + 12, 4), le(end + 10, 2)};
    CN_TRY(read_end64(ctx, bytes, end, &dir));
    uint64_t end_at = (uint64_t)(end - bytes);
    if (dir.at > end_at || dir.bytes > end_at - dir.at)
        return cn_fail(ctx, CN_EFORMAT, "zip: the central directory lies outside the file");
    if (dir.count > MAX_ENTRIES || dir.count > dir.bytes / CENTRAL_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "zip: %llu entries don't fit in the central directory",
                       (unsigned long long)dir.count);
    zip.entries = cn_alloc0(ctx, (size_t)(dir.count + 1) * sizeof *zip.entries);
    if (!zip.entries) return CN_ENOMEM;
    cn_status s = read_entries(ctx, bytes, &dir, &zip);
    if (s != CN_OK) {
        cn_zip_close(&zip);
        return s;
    }
    *out = zip;
    return CN_OK;
}

const cn_zip_entry *cn_zip_find(const cn_zip *zip, const char *name, size_t name_len)
{
    size_t lo = 0, hi = zip->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const cn_zip_entry *e = &zip->entries[mid];
        int c = compare_names(e->name, e->name_len, name, name_len);
        if (c == 0) return e;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

void cn_zip_close(cn_zip *zip)
{
    cn_free(zip->entries);
    *zip = (cn_zip){0};
}
