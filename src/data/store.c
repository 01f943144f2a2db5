/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - records in memory or in a nameless file; those of files that stay are
 * store_file.c's. */
#include "data/store_internal.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cn_status cn_store_fail(cn_ctx *ctx, const cn_store *s, const char *what, int error)
{
    char reason[128];
    return cn_fail(ctx, CN_EIO, "cannot %s the cache file %s\"%s\": %s", what,
                   s->slots ? "" : "in ", s->path, strerror_r(error, reason, sizeof reason));
}

static cn_status open_file(cn_ctx *ctx, cn_store *s, size_t bytes)
{
    char path[4128];
    errno = EEXIST; /* another process's, for a moment, in another process namespace */
    for (int tries = 0; s->fd < 0 && errno == EEXIST && tries < 100; tries++) {
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/.cache-%ld-%p-%d", s->path, (long)getpid(),
                         (void *)s, tries));
        s->fd = cn_sys_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    }
    if (s->fd < 0) return cn_store_fail(ctx, s, "make", errno);
    cn_sys_unlink(path);
    return cn_sys_reserve(s->fd, (int64_t)bytes) == 0
               ? CN_OK
               : cn_store_fail(ctx, s, "reserve room for", errno);
}

cn_status cn_store_create(cn_ctx *ctx, int64_t n, size_t record_bytes, size_t memory_limit_bytes,
                          const char *dir, cn_store **out)
{
    size_t bytes = 0;
    if (!cn_mul_size((size_t)CN_MAX(n, 1), CN_MAX(record_bytes, 1), &bytes) || bytes > INT64_MAX)
        return cn_fail(ctx, CN_ENOMEM, "a cache of %lld records of %zu bytes is too large",
                       (long long)n, record_bytes);
    cn_store *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    *s = (cn_store){.ctx = ctx, .n = n, .record_bytes = record_bytes, .fd = -1};
    s->has = cn_alloc0(ctx, (size_t)CN_MAX(n, 1));
    cn_status status = s->has ? cn_format(ctx, s->path, sizeof s->path, "%s", dir) : CN_ENOMEM;
    if (status == CN_OK && bytes <= memory_limit_bytes)
        status = (s->memory = cn_alloc(ctx, bytes)) ? CN_OK : CN_ENOMEM;
    else if (status == CN_OK)
        status = open_file(ctx, s, bytes);
    if (status != CN_OK) {
        cn_store_destroy(s);
        return status;
    }
    *out = s;
    return CN_OK;
}

void cn_store_destroy(cn_store *s)
{
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    cn_free(s->memory);
    cn_free(s->has);
    cn_free(s->slots);
    cn_free(s->keys);
    cn_free(s);
}

cn_status cn_store_write_at(cn_store *s, const void *bytes, size_t n, int64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t k =
            cn_sys_pwrite(s->fd, (const char *)bytes + done, n - done, at + (int64_t)done);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return cn_store_fail(s->ctx, s, "write", k < 0 ? errno : ENOSPC);
        done += (size_t)k;
    }
    return CN_OK;
}

cn_status cn_store_read_at(const cn_store *s, cn_ctx *ctx, void *bytes, size_t n, int64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t k = cn_sys_pread(s->fd, (char *)bytes + done, n - done, at + (int64_t)done);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return cn_store_fail(ctx, s, "read", k < 0 ? errno : EIO);
        done += (size_t)k;
    }
    return CN_OK;
}

bool cn_store_has(const cn_store *s, int64_t i)
{
    return s->slots ? s->slots[i] >= 0 : s->has[i];
}

bool cn_store_damaged(const cn_store *s, int64_t i)
{
    return s->slots && s->slots[i] < CN_SLOT_ABSENT;
}

cn_status cn_store_write(cn_store *s, int64_t i, const void *record)
{
    if (s->slots) return cn_store_append(s, i, record);
    if (s->memory)
        memcpy(s->memory + (size_t)i * s->record_bytes, record, s->record_bytes);
    else
        CN_TRY(cn_store_write_at(s, record, s->record_bytes, i * (int64_t)s->record_bytes));
    s->has[i] = true;
    return CN_OK;
}

cn_status cn_store_read(const cn_store *s, cn_ctx *ctx, int64_t i, void *record)
{
    if (s->slots) return cn_store_read_slot(s, ctx, i, record);
    if (!s->memory)
        return cn_store_read_at(s, ctx, record, s->record_bytes, i * (int64_t)s->record_bytes);
    memcpy(record, s->memory + (size_t)i * s->record_bytes, s->record_bytes);
    return CN_OK;
}

size_t cn_store_record_bytes(const cn_store *s)
{
    return s->record_bytes;
}

size_t cn_store_index_bytes(int64_t n)
{
    return (size_t)n * (sizeof(int64_t) + sizeof(uint64_t));
}
