/* store.c - records in memory or in a nameless file. */
#include "train/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

struct cn_store {
    cn_ctx *ctx;
    int64_t n;
    size_t record_bytes;
    char *memory; /* NULL: in the file */
    int fd;
    char dir[4096];
};

static cn_status fail_file(cn_ctx *ctx, const char *dir, const char *what, int error)
{
    char reason[128];
    return cn_fail(ctx, CN_EIO, "cannot %s the cache file in \"%s\": %s", what, dir,
                   strerror_r(error, reason, sizeof reason));
}

static cn_status open_file(cn_ctx *ctx, cn_store *s, size_t bytes)
{
    char path[4128];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/.cache-XXXXXX", s->dir));
    s->fd = mkostemp(path, O_CLOEXEC);
    if (s->fd < 0) return fail_file(ctx, s->dir, "make", errno);
    unlink(path);
    const int error = posix_fallocate(s->fd, 0, (off_t)bytes);
    return error ? fail_file(ctx, s->dir, "reserve room for", error) : CN_OK;
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
    cn_status status = cn_format(ctx, s->dir, sizeof s->dir, "%s", dir);
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
    cn_free(s);
}

cn_status cn_store_write(cn_store *s, int64_t i, const void *record)
{
    if (s->memory) {
        memcpy(s->memory + (size_t)i * s->record_bytes, record, s->record_bytes);
        return CN_OK;
    }
    for (size_t done = 0; done < s->record_bytes;) {
        const ssize_t k = pwrite(s->fd, (const char *)record + done, s->record_bytes - done,
                                 (off_t)((size_t)i * s->record_bytes + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return fail_file(s->ctx, s->dir, "write", k < 0 ? errno : ENOSPC);
        done += (size_t)k;
    }
    return CN_OK;
}

cn_status cn_store_read(cn_store *s, int64_t i, void *record)
{
    if (s->memory) {
        memcpy(record, s->memory + (size_t)i * s->record_bytes, s->record_bytes);
        return CN_OK;
    }
    for (size_t done = 0; done < s->record_bytes;) {
        const ssize_t k = pread(s->fd, (char *)record + done, s->record_bytes - done,
                                (off_t)((size_t)i * s->record_bytes + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return fail_file(s->ctx, s->dir, "read", k < 0 ? errno : EIO);
        done += (size_t)k;
    }
    return CN_OK;
}

size_t cn_store_record_bytes(const cn_store *s)
{
    return s->record_bytes;
}
