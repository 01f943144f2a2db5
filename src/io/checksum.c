/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.c - CRC-32 over files, and keys of them. */
#include "io/checksum.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK_BYTES = 1 << 20 };

uint32_t cn_crc32(const void *bytes, size_t n)
{
    return (uint32_t)crc32_z(0, bytes, n);
}

uint32_t cn_crc32_more(uint32_t crc, const void *bytes, size_t n)
{
    return (uint32_t)crc32_z(crc, bytes, n);
}

static cn_status sum(cn_ctx *ctx, int fd, const char *path, int64_t *bytes, uint32_t *crc)
{
    unsigned char *chunk = cn_alloc(ctx, CHUNK_BYTES);
    if (!chunk) return CN_ENOMEM;
    uLong value = 0;
    int64_t total = 0;
    ssize_t n;
    while ((n = cn_sys_read(fd, chunk, CHUNK_BYTES)) != 0) {
        if (n < 0 && errno == EINTR && !cn_cancelled(ctx)) continue;
        if (n < 0) break;
        value = crc32_z(value, chunk, (size_t)n);
        total += n;
    }
    const cn_status s = n < 0 ? cn_fail_io(ctx, "read", path, errno) : CN_OK;
    cn_free(chunk);
    if (s != CN_OK) return s;
    *bytes = total;
    *crc = (uint32_t)value;
    return CN_OK;
}

cn_status cn_file_crc32(cn_ctx *ctx, const char *path, int64_t *bytes, uint32_t *crc)
{
    int fd = -1;
    CN_TRY(cn_file_open(ctx, path, &fd, NULL));
    const cn_status s = sum(ctx, fd, path, bytes, crc);
    close(fd);
    return s;
}

uint64_t cn_file_key(const char *path)
{
    struct stat st = {0};
    char *real = realpath(path, NULL);
    const char *name = real ? real : path;
    if (stat(name, &st) != 0) st = (struct stat){0};
    const uint64_t parts[] = {cn_hash64(name, strlen(name)), (uint64_t)st.st_size,
                              (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
    free(real);
    return cn_hash64(parts, sizeof parts);
}
