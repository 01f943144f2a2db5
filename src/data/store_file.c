/* SPDX-License-Identifier: Apache-2.0 */
/* store_file.c - files of records that stay: opened, looked through where no note says what is in
 * them, appended to. */
#include "io/checksum.h"
#include "base/sys.h"
#include "data/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 64 };

typedef struct head {
    char magic[8];
    uint64_t identity, record_bytes;
} head;

typedef struct slot_head {
    uint64_t key;
    uint32_t crc; /* of the record, begun with the key */
    uint32_t zero;
} slot_head;

static const char magic[8] = "CNCACHE1";

static size_t stride(const cn_store *s)
{
    return sizeof(slot_head) + s->record_bytes;
}

static int64_t position(const cn_store *s, int64_t slot)
{
    return HEAD_BYTES + slot * (int64_t)stride(s);
}

/* buffer: a slot whose record is in place. */
static uint32_t sum_of(const cn_store *s, char *buffer)
{
    slot_head h;
    memcpy(&h, buffer, sizeof h);
    h.crc = 0;
    memcpy(buffer, &h, sizeof h);
    return cn_crc32(buffer, stride(s));
}

static bool is_whole(const cn_store *s, char *buffer, uint64_t *key)
{
    slot_head h;
    memcpy(&h, buffer, sizeof h);
    *key = h.key;
    return sum_of(s, buffer) == h.crc;
}

/* --- looking through -------------------------------------------------------------------------- */

/* Whole slots before broken ones of the same key. */
static int by_key(const void *a, const void *b)
{
    const cn_seen *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->whole == y->whole ? 0 : x->whole ? -1 : 1;
}

static cn_status look_at(cn_store *s, int64_t slot, char *buffer, cn_seen *out)
{
    CN_TRY(cn_store_read_at(s, s->ctx, buffer, stride(s), position(s, slot)));
    out->slot = slot;
    out->whole = is_whole(s, buffer, &out->key);
    return CN_OK;
}

static cn_status scan_entries(cn_store *s, const cn_store_file *f, int64_t n, cn_seen *list)
{
    char *buffer = cn_alloc(s->ctx, stride(s));
    if (!buffer) return CN_ENOMEM;
    cn_status status = CN_OK;
    for (int64_t k = 0; k < n && status == CN_OK; k++) {
        status = look_at(s, k, buffer, &list[k]);
        if (status == CN_OK && cn_cancelled(s->ctx))
            status = cn_fail(s->ctx, CN_ECANCELLED, "stopped while reading %s", s->path);
        if (f && f->progress && (k % 64 == 63 || k + 1 == n))
            f->progress(f->progress_user, "reading the cache", k + 1, n);
    }
    cn_free(buffer);
    return status;
}

/* The first in the sorted list with this key. */
static const cn_seen *find(const cn_seen *list, int64_t n, uint64_t key)
{
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (list[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && list[low].key == key ? &list[low] : NULL;
}

/* Number of slots; what a killed process left torn behind the last one goes. Under the lock. */
static cn_status count_slots(cn_store *s, int64_t *n)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) return cn_store_fail(s->ctx, s, "look at", errno);
    *n = CN_MAX(st.st_size - HEAD_BYTES, 0) / (int64_t)stride(s);
    if (st.st_size <= position(s, *n)) return CN_OK;
    return cn_sys_truncate(s->fd, position(s, *n)) == 0 ? CN_OK
                                                        : cn_store_fail(s->ctx, s, "cut", errno);
}

static cn_status match(cn_store *s, const cn_store_file *f)
{
    int64_t n = 0;
    CN_TRY(count_slots(s, &n));
    cn_seen *list = cn_alloc_array(s->ctx, (size_t)CN_MAX(n, 1), sizeof *list);
    if (!list) return CN_ENOMEM;
    cn_status status = CN_OK;
    if (!cn_store_index_read(s, n, list)) {
        status = scan_entries(s, f, n, list);
        if (status == CN_OK) cn_store_index_write(s, n, list);
    }
    if (status == CN_OK) qsort(list, (size_t)n, sizeof *list, by_key);
    for (int64_t i = 0; i < s->n && status == CN_OK; i++) {
        const cn_seen *at = find(list, n, s->keys[i]);
        s->slots[i] = !at ? CN_SLOT_ABSENT : at->whole ? at->slot : CN_SLOT_ABSENT - 1 - at->slot;
    }
    cn_free(list);
    return status;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Reads the head, or writes it to an empty file. Under the lock. */
static cn_status open_header(cn_store *s, const cn_store_file *f)
{
    struct stat st;
    char bytes[HEAD_BYTES] = {0};
    head h = {.identity = f->identity, .record_bytes = f->record_bytes};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(bytes, &h, sizeof h);
    if (fstat(s->fd, &st) != 0) return cn_store_fail(s->ctx, s, "look at", errno);
    if (st.st_size < HEAD_BYTES) return cn_store_write_at(s, bytes, sizeof bytes, 0);
    CN_TRY(cn_store_read_at(s, s->ctx, bytes, sizeof bytes, 0));
    if (memcmp(bytes, &h, sizeof h) == 0) return CN_OK;
    return cn_fail(s->ctx, CN_EFORMAT,
                   "%s: no cache of this data and model, or its head is damaged; remove it or take "
                   "another --cache-dir",
                   s->path);
}

static cn_status lock(cn_store *s, int how)
{
    while (cn_sys_flock(s->fd, how) != 0)
        if (errno != EINTR || cn_cancelled(s->ctx)) return cn_store_fail(s->ctx, s, "lock", errno);
    return CN_OK;
}

static cn_status begin(cn_store *s, const cn_store_file *f)
{
    s->fd = cn_sys_open(s->path, O_RDWR | O_CREAT | O_NONBLOCK, 0666);
    if (s->fd < 0) return cn_store_fail(s->ctx, s, "open", errno);
    CN_TRY(lock(s, LOCK_EX));
    cn_status status = open_header(s, f);
    if (status == CN_OK) status = match(s, f);
    const cn_status unlocked = lock(s, LOCK_UN);
    return status == CN_OK ? unlocked : status;
}

cn_status cn_store_open(cn_ctx *ctx, const cn_store_file *f, cn_store **out)
{
    cn_store *s = cn_alloc0(ctx, sizeof *s);
    if (!s) {
        cn_free(f->keys);
        return CN_ENOMEM;
    }
    *s = (cn_store){
        .ctx = ctx, .n = f->n, .record_bytes = f->record_bytes, .keys = f->keys, .fd = -1};
    s->slots = cn_alloc_array(ctx, (size_t)CN_MAX(f->n, 1), sizeof *s->slots);
    cn_status status =
        s->slots ? cn_format(ctx, s->path, sizeof s->path, "%s", f->path) : CN_ENOMEM;
    if (status == CN_OK) status = begin(s, f);
    if (status != CN_OK) {
        cn_store_destroy(s);
        return status;
    }
    *out = s;
    return CN_OK;
}

cn_status cn_store_refresh(cn_store *s)
{
    if (!s->slots) return CN_OK;
    CN_TRY(lock(s, LOCK_EX));
    const cn_status status = match(s, NULL);
    const cn_status unlocked = lock(s, LOCK_UN);
    return status == CN_OK ? unlocked : status;
}

/* --- records ---------------------------------------------------------------------------------- */

static cn_status append_locked(cn_store *s, int64_t i, const char *buffer)
{
    int64_t n = 0;
    CN_TRY(count_slots(s, &n));
    const int64_t slot = cn_store_damaged(s, i) ? CN_SLOT_ABSENT - 1 - s->slots[i] : n;
    const bool noted = cn_store_index_counts(s, n);
    CN_TRY(cn_store_write_at(s, buffer, stride(s), position(s, slot)));
    if (noted) cn_store_index_add(s, CN_MAX(n, slot + 1), slot, s->keys[i]);
    s->slots[i] = slot;
    return CN_OK;
}

cn_status cn_store_append(cn_store *s, int64_t i, const void *record)
{
    char *buffer = cn_alloc(s->ctx, stride(s));
    if (!buffer) return CN_ENOMEM;
    slot_head h = {.key = s->keys[i]};
    memcpy(buffer, &h, sizeof h);
    memcpy(buffer + sizeof h, record, s->record_bytes);
    h.crc = sum_of(s, buffer);
    memcpy(buffer, &h, sizeof h);
    cn_status status = lock(s, LOCK_EX);
    if (status == CN_OK) {
        status = append_locked(s, i, buffer);
        const cn_status unlocked = lock(s, LOCK_UN);
        if (status == CN_OK) status = unlocked;
    }
    cn_free(buffer);
    return status;
}

cn_status cn_store_read_slot(const cn_store *s, cn_ctx *ctx, int64_t i, void *record)
{
    slot_head h;
    const int64_t at = position(s, s->slots[i]);
    CN_TRY(cn_store_read_at(s, ctx, &h, sizeof h, at));
    CN_TRY(cn_store_read_at(s, ctx, record, s->record_bytes, at + (int64_t)sizeof h));
    const slot_head bare = {.key = h.key};
    uint32_t crc = cn_crc32(&bare, sizeof bare);
    crc = cn_crc32_more(crc, record, s->record_bytes);
    if (crc == h.crc && h.key == s->keys[i]) return CN_OK;
    cn_store_index_drop(s);
    return cn_fail(ctx, CN_EFORMAT,
                   "%s: an entry was damaged since the run began; started again, the run makes it "
                   "anew",
                   s->path);
}
