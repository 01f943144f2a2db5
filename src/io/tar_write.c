/* SPDX-License-Identifier: Apache-2.0 */
/* tar_write.c - see tar_write.h; POSIX.1-2008, pax, "ustar Interchange Format". */
#include "io/tar_write.h"

#include <string.h>

static const char zeros[2 * CN_TAR_BLOCK];

/* Where a header's fields are. */
enum {
    MODE_AT = 100,
    UID_AT = 108,
    GID_AT = 116,
    SIZE_AT = 124,
    TIME_AT = 136,
    SUM_AT = 148,
    TYPE_AT = 156,
    MAGIC_AT = 257
};

static void put_octal(char *at, int digits, uint64_t value)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 3) at[i] = (char)('0' + (value & 7));
}

static void fill_header(const char *name, char type, size_t n, char h[CN_TAR_BLOCK])
{
    unsigned sum = 0;
    memset(h, 0, CN_TAR_BLOCK);
    memcpy(h, name, strlen(name));
    put_octal(h + MODE_AT, 7, 0644);
    put_octal(h + UID_AT, 7, 0);
    put_octal(h + GID_AT, 7, 0);
    put_octal(h + SIZE_AT, 11, n);
    put_octal(h + TIME_AT, 11, 0);
    memset(h + SUM_AT, ' ', 8);
    h[TYPE_AT] = type;
    memcpy(h + MAGIC_AT, "ustar\00000", 8);
    for (int i = 0; i < CN_TAR_BLOCK; i++) sum += (unsigned char)h[i];
    put_octal(h + SUM_AT, 6, sum);
    h[SUM_AT + 6] = 0;
}

static cn_status add(cn_ctx *ctx, cn_str *tar, const char *name, char type, const void *bytes,
                     size_t n)
{
    char header[CN_TAR_BLOCK];
    if (strlen(name) >= CN_TAR_NAME_BYTES || (uint64_t)n >> 33)
        return cn_fail(ctx, CN_EINVAL,
                       "\"%.200s\" of %zu bytes: a tar file's members have names "
                       "of less than %d bytes and less than 8 GiB",
                       name, n, CN_TAR_NAME_BYTES);
    fill_header(name, type, n, header);
    cn_str_add(tar, header, sizeof header);
    cn_str_add(tar, bytes, n);
    cn_str_add(tar, zeros, (CN_TAR_BLOCK - n % CN_TAR_BLOCK) % CN_TAR_BLOCK);
    return tar->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a tar file's member") : CN_OK;
}

cn_status cn_tar_add(cn_ctx *ctx, cn_str *tar, const char *name, const void *bytes, size_t n)
{
    return add(ctx, tar, name, '0', bytes, n);
}

/* A pax record is "LENGTH KEY=VALUE\n", its length counting itself. */
cn_status cn_tar_add_comment(cn_ctx *ctx, cn_str *tar, const char *text)
{
    cn_str record = {0};
    const size_t rest = strlen(" comment=\n") + strlen(text);
    size_t n = rest + 1;
    while (n != rest + (size_t)snprintf(NULL, 0, "%zu", n))
        n = rest + (size_t)snprintf(NULL, 0, "%zu", n);
    cn_str_addf(&record, "%zu comment=%s\n", n, text);
    const cn_status s = record.failed
                            ? cn_fail(ctx, CN_ENOMEM, "no memory for a tar file's comment")
                            : add(ctx, tar, "pax_global_header", 'g', record.data, record.len);
    cn_str_free(&record);
    return s;
}

cn_status cn_tar_add_end(cn_ctx *ctx, cn_str *tar)
{
    cn_str_add(tar, zeros, sizeof zeros);
    return tar->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a tar file's end") : CN_OK;
}
