/* SPDX-License-Identifier: Apache-2.0 */
/* tar.c - libarchive's tar reader: a scan of headers, and single members by position. */
#include "io/tar.h"

#include "base/sys.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 16 };

typedef struct reader {
    struct archive *archive;
    struct archive_entry *entry;
    int fd;
} reader;

static void reader_close(reader *r)
{
    if (r->archive) archive_read_free(r->archive);
    if (r->fd >= 0) close(r->fd);
}

/* In the C locale a name beyond ASCII may be known as UTF-8 only. */
static const char *entry_name(const reader *r)
{
    const char *name = archive_entry_pathname(r->entry);
    if (!name) name = archive_entry_pathname_utf8(r->entry);
    return name ? name : "";
}

static cn_status fail_archive(cn_ctx *ctx, const char *path, const reader *r)
{
    const char *reason = archive_error_string(r->archive);
    return cn_fail(ctx, CN_EFORMAT, "%s: damaged tar file: %s", path, reason ? reason : "no data");
}

/* gzip, zstd, xz and bzip2 by their first bytes. */
static const char *compression(const unsigned char *b)
{
    if (b[0] == 0x1f && b[1] == 0x8b) return "gzip";
    if (b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd) return "zstd";
    if (!memcmp(b,
                "\xfd"
                "7zXZ",
                5))
        return "xz";
    if (!memcmp(b, "BZh", 3)) return "bzip2";
    return NULL;
}

static cn_status reader_open(cn_ctx *ctx, const char *path, int64_t position, reader *r)
{
    unsigned char begin[8] = {0};
    *r = (reader){.fd = -1};
    CN_TRY(cn_file_open(ctx, path, &r->fd, NULL));
    const char *packed =
        cn_sys_pread(r->fd, begin, sizeof begin, 0) == sizeof begin ? compression(begin) : NULL;
    if (packed)
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: a tar file compressed by %s; its members can't be read by their place, "
                       "uncompress it first",
                       path, packed);
    if (lseek(r->fd, (off_t)position, SEEK_SET) < 0)
        return cn_fail(ctx, CN_EIO, "%s: cannot go to byte %lld", path, (long long)position);
    if (!(r->archive = archive_read_new()))
        return cn_fail(ctx, CN_ENOMEM, "%s: no memory to read it", path);
    if (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
        archive_read_open_fd(r->archive, r->fd, BLOCK_BYTES) != ARCHIVE_OK)
        return fail_archive(ctx, path, r);
    return CN_OK;
}

/* The next member's header; *more false at the end. */
static cn_status reader_next(cn_ctx *ctx, const char *path, reader *r, bool *more)
{
    const int got = archive_read_next_header(r->archive, &r->entry);
    *more = got != ARCHIVE_EOF;
    return got == ARCHIVE_EOF || got == ARCHIVE_OK || got == ARCHIVE_WARN
               ? CN_OK
               : fail_archive(ctx, path, r);
}

cn_status cn_tar_scan(cn_ctx *ctx, const char *path,
                      cn_status (*visit)(void *user, const cn_tar_entry *entry), void *user)
{
    reader r;
    bool more = true;
    cn_status s = reader_open(ctx, path, 0, &r);
    while (s == CN_OK) {
        s = reader_next(ctx, path, &r, &more);
        if (s != CN_OK || !more) break;
        if (archive_entry_filetype(r.entry) != AE_IFREG) continue;
        const cn_tar_entry e = {entry_name(&r), archive_read_header_position(r.archive),
                                archive_entry_size(r.entry)};
        s = visit(user, &e);
    }
    reader_close(&r);
    return s;
}

/* head: no more than max_bytes; else a longer member is refused. */
static cn_status read_data(cn_ctx *ctx, const char *path, reader *r, size_t max_bytes, bool head,
                           char **data, size_t *n)
{
    int64_t size = archive_entry_size(r->entry);
    if (head) size = CN_MIN(size, (int64_t)max_bytes);
    if (size < 0 || (uint64_t)size > max_bytes)
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" is too large: at most %zu bytes are expected",
                       path, entry_name(r), max_bytes);
    char *bytes = cn_alloc(ctx, (size_t)size + 1);
    if (!bytes) return CN_ENOMEM;
    size_t got = 0;
    while (got < (size_t)size) {
        const la_ssize_t k = archive_read_data(r->archive, bytes + got, (size_t)size - got);
        if (k <= 0) {
            cn_free(bytes);
            return k < 0 ? fail_archive(ctx, path, r)
                         : cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" ends early", path, entry_name(r));
        }
        got += (size_t)k;
    }
    bytes[got] = 0;
    *data = bytes;
    *n = got;
    return CN_OK;
}

static cn_status read_member(cn_ctx *ctx, const char *path, int64_t position, size_t max_bytes,
                             bool head, char **name, char **data, size_t *n)
{
    reader r;
    bool more = true;
    cn_status s = reader_open(ctx, path, position, &r);
    if (s == CN_OK) s = reader_next(ctx, path, &r, &more);
    if (s == CN_OK && !more)
        s = cn_fail(ctx, CN_EFORMAT, "%s: no member at byte %lld; the file has changed", path,
                    (long long)position);
    if (s == CN_OK) s = read_data(ctx, path, &r, max_bytes, head, data, n);
    if (s == CN_OK && name && !(*name = cn_strdup(ctx, entry_name(&r)))) {
        cn_free(*data);
        s = CN_ENOMEM;
    }
    reader_close(&r);
    return s;
}

cn_status cn_tar_read(cn_ctx *ctx, const char *path, int64_t position, size_t max_bytes,
                      char **name, char **data, size_t *n)
{
    return read_member(ctx, path, position, max_bytes, false, name, data, n);
}

cn_status cn_tar_read_head(cn_ctx *ctx, const char *path, int64_t position, size_t max_bytes,
                           char **data, size_t *n)
{
    return read_member(ctx, path, position, max_bytes, true, NULL, data, n);
}
