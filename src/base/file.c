/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole files in and out.
 *
 * Writing is atomic: a reader sees the old file or the complete new one, also after a crash,
 * because the bytes are on disk before the rename and the folder's entry after it.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The system's reason as text; buffer is what strerror_r may use. */
static const char *reason(int error, char *buffer, size_t n)
{
    return strerror_r(error, buffer, n);
}

static cn_status fail_io(cn_ctx *ctx, const char *what, const char *path, int error)
{
    char buffer[128];
    return cn_fail(ctx, CN_EIO, "cannot %s \"%s\": %s", what, path,
                   reason(error, buffer, sizeof buffer));
}

static cn_status fail_large(cn_ctx *ctx, const char *path, size_t max_bytes)
{
    return cn_fail(ctx, CN_EFORMAT, "\"%s\" is too large: at most %zu bytes are expected here",
                   path, max_bytes);
}

/* Reads until the end: the size that fstat gave is a first guess only (/proc, growing files). */
static cn_status read_all(cn_ctx *ctx, int fd, const char *path, size_t guess, size_t max_bytes,
                          char **data, size_t *n)
{
    size_t cap = guess + 2, len = 0;
    char *buffer = cn_alloc(ctx, cap);
    if (!buffer) return CN_ENOMEM;
    for (;;) {
        if (len + 1 == cap) {
            char *grown = cap > SIZE_MAX / 2 ? NULL : cn_regrow(ctx, buffer, len, cap * 2);
            if (!grown) {
                cn_free(buffer);
                return CN_ENOMEM;
            }
            buffer = grown;
            cap *= 2;
        }
        ssize_t got = read(fd, buffer + len, cap - 1 - len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int error = errno;
            cn_free(buffer);
            return fail_io(ctx, "read", path, error);
        }
        if (got == 0) break;
        len += (size_t)got;
        if (len > max_bytes) {
            cn_free(buffer);
            return fail_large(ctx, path, max_bytes);
        }
    }
    buffer[len] = 0;
    *data = buffer;
    *n = len;
    return CN_OK;
}

cn_status cn_file_read(cn_ctx *ctx, const char *path, size_t max_bytes, char **data, size_t *n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_io(ctx, "open", path, errno);
    struct stat st;
    cn_status s = CN_OK;
    if (fstat(fd, &st) != 0)
        s = fail_io(ctx, "look at", path, errno);
    else if (S_ISDIR(st.st_mode))
        s = cn_fail(ctx, CN_EIO, "cannot read \"%s\": it is a folder, a file is expected", path);
    else if (st.st_size > 0 && (uint64_t)st.st_size > max_bytes)
        s = fail_large(ctx, path, max_bytes);
    else
        s = read_all(ctx, fd, path, st.st_size > 0 ? (size_t)st.st_size : 4096, max_bytes, data, n);
    close(fd);
    return s;
}

cn_status cn_file_read_head(cn_ctx *ctx, const char *path, size_t max_bytes, char **data, size_t *n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_io(ctx, "open", path, errno);
    char *buffer = cn_alloc(ctx, max_bytes + 1);
    size_t len = 0;
    ssize_t got = 1;
    while (buffer && got && len < max_bytes) {
        got = read(fd, buffer + len, max_bytes - len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        len += (size_t)got;
    }
    const cn_status s = !buffer ? CN_ENOMEM : got < 0 ? fail_io(ctx, "read", path, errno) : CN_OK;
    close(fd);
    if (s != CN_OK) {
        cn_free(buffer);
        return s;
    }
    buffer[len] = 0;
    *data = buffer;
    *n = len;
    return CN_OK;
}

cn_status cn_writer_open(cn_ctx *ctx, const char *path, cn_file_writer *w)
{
    w->f = NULL;
    CN_TRY(cn_format(ctx, w->path, sizeof w->path, "%s", path));
    CN_TRY(cn_format(ctx, w->tmp, sizeof w->tmp, "%s.tmp-%ld", path, (long)getpid()));
    /* O_NOFOLLOW: in a shared folder somebody may have put a link where the temporary file goes. */
    int fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return fail_io(ctx, "write", path, errno);
    w->f = fdopen(fd, "wb");
    if (!w->f) {
        int error = errno;
        close(fd);
        unlink(w->tmp);
        return fail_io(ctx, "write", path, error);
    }
    return CN_OK;
}

/* Puts the rename itself on disk. Some file systems cannot sync a folder (EINVAL): no failure. */
static cn_status sync_parent(cn_ctx *ctx, const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    if (!slash)
        CN_TRY(cn_format(ctx, dir, sizeof dir, "."));
    else
        CN_TRY(
            cn_format(ctx, dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? CN_OK : fail_io(ctx, "open folder", dir, errno);
    int error = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
    close(fd);
    return error ? fail_io(ctx, "sync folder", dir, error) : CN_OK;
}

cn_status cn_writer_commit(cn_ctx *ctx, cn_file_writer *w)
{
    int error = 0;
    if (ferror(w->f)) error = EIO;
    if (fflush(w->f) != 0 && !error) error = errno;
    if (!error && fsync(fileno(w->f)) != 0 && errno != EINVAL && errno != ENOTSUP) error = errno;
    if (fclose(w->f) != 0 && !error) error = errno;
    w->f = NULL;
    if (!error && rename(w->tmp, w->path) != 0) error = errno;
    if (error) {
        unlink(w->tmp);
        return fail_io(ctx, "write", w->path, error);
    }
    return sync_parent(ctx, w->path);
}

void cn_writer_abort(cn_file_writer *w)
{
    if (!w || !w->f) return;
    fclose(w->f);
    w->f = NULL;
    unlink(w->tmp);
}

cn_status cn_file_write(cn_ctx *ctx, const char *path, const void *data, size_t n)
{
    cn_file_writer w;
    CN_TRY(cn_writer_open(ctx, path, &w));
    if (n && fwrite(data, 1, n, w.f) != n) {
        int error = errno;
        cn_writer_abort(&w);
        return fail_io(ctx, "write", path, error);
    }
    return cn_writer_commit(ctx, &w);
}

bool cn_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool cn_dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

cn_status cn_dir_make(cn_ctx *ctx, const char *path)
{
    char part[4096];
    if (!path[0]) return cn_fail(ctx, CN_EINVAL, "cannot make a folder without a name");
    CN_TRY(cn_format(ctx, part, sizeof part, "%s", path));
    for (char *p = part + 1;; p++) {
        char c = *p;
        if (c != '/' && c) continue;
        *p = 0;
        if (mkdir(part, 0777) != 0 && !cn_dir_exists(part))
            return cn_file_exists(part)
                       ? cn_fail(ctx, CN_EIO, "cannot make folder \"%s\": it is a file", part)
                       : fail_io(ctx, "make folder", part, errno);
        *p = c;
        if (!c) return CN_OK;
    }
}
