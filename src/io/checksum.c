/* checksum.c - CRC-32 over files. */
#include "io/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK_BYTES = 1 << 20 };

uint32_t cn_crc32(const void *bytes, size_t n)
{
    return (uint32_t)crc32_z(0, bytes, n);
}

static cn_status fail_read(cn_ctx *ctx, const char *path)
{
    char reason[128];
    return cn_fail(ctx, CN_EIO, "cannot read \"%s\": %s", path,
                   strerror_r(errno, reason, sizeof reason));
}

static cn_status sum(cn_ctx *ctx, int fd, const char *path, int64_t *bytes, uint32_t *crc)
{
    unsigned char *chunk = cn_alloc(ctx, CHUNK_BYTES);
    if (!chunk) return CN_ENOMEM;
    uLong value = 0;
    int64_t total = 0;
    ssize_t n;
    while ((n = read(fd, chunk, CHUNK_BYTES)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        value = crc32_z(value, chunk, (size_t)n);
        total += n;
    }
    const cn_status s = n < 0 ? fail_read(ctx, path) : CN_OK;
    cn_free(chunk);
    if (s != CN_OK) return s;
    *bytes = total;
    *crc = (uint32_t)value;
    return CN_OK;
}

cn_status cn_file_crc32(cn_ctx *ctx, const char *path, int64_t *bytes, uint32_t *crc)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_read(ctx, path);
    const cn_status s = sum(ctx, fd, path, bytes, crc);
    close(fd);
    return s;
}
