/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole files in, and folders. */
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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
        ssize_t got = cn_sys_read(fd, buffer + len, cap - 1 - len);
        if (got < 0 && errno == EINTR && !cn_cancelled(ctx)) continue;
        if (got < 0) {
            int error = errno;
            cn_free(buffer);
            return cn_fail_io(ctx, "read", path, error);
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

cn_status cn_file_open(cn_ctx *ctx, const char *path, int *fd, size_t *bytes)
{
    struct stat st;
    const char *what = NULL;
    /* a pipe without a writer would be waited for here already */
    const int file = cn_sys_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (file < 0) return cn_fail_io(ctx, "open", path, errno);
    if (fstat(file, &st) != 0) {
        const int error = errno;
        close(file);
        return cn_fail_io(ctx, "look at", path, error);
    }
    if (S_ISDIR(st.st_mode))
        what = "a folder";
    else if (S_ISFIFO(st.st_mode))
        what = "a pipe";
    else if (!S_ISREG(st.st_mode))
        what = "a device or a socket";
    if (what) {
        close(file);
        return cn_fail(ctx, CN_EIO, "cannot read \"%s\": it is %s, a file is expected", path, what);
    }
    if (bytes) *bytes = st.st_size > 0 ? (size_t)st.st_size : 0;
    *fd = file;
    return CN_OK;
}

cn_status cn_file_open_stream(cn_ctx *ctx, const char *path, FILE **out)
{
    int fd = -1;
    CN_TRY(cn_file_open(ctx, path, &fd, NULL));
    FILE *f = cn_sys_stream(fd, "rb");
    if (!f) {
        const int error = errno;
        close(fd);
        return cn_fail_io(ctx, "open", path, error);
    }
    *out = f;
    return CN_OK;
}

cn_status cn_file_append(cn_ctx *ctx, const char *path, bool anew, FILE **out)
{
    const int fd = cn_sys_open(path, O_WRONLY | O_CREAT | O_APPEND | (anew ? O_TRUNC : 0), 0666);
    if (fd < 0) return cn_fail_io(ctx, "write", path, errno);
    FILE *f = cn_sys_stream(fd, "ab");
    if (!f) {
        const int error = errno;
        close(fd);
        return cn_fail_io(ctx, "write", path, error);
    }
    *out = f;
    return CN_OK;
}

cn_status cn_file_read(cn_ctx *ctx, const char *path, size_t max_bytes, char **data, size_t *n)
{
    int fd = -1;
    size_t bytes = 0;
    CN_TRY(cn_file_open(ctx, path, &fd, &bytes));
    const cn_status s = bytes > max_bytes
                            ? fail_large(ctx, path, max_bytes)
                            : read_all(ctx, fd, path, bytes ? bytes : 4096, max_bytes, data, n);
    close(fd);
    return s;
}

cn_status cn_file_read_head(cn_ctx *ctx, const char *path, size_t max_bytes, char **data, size_t *n)
{
    int fd = -1;
    CN_TRY(cn_file_open(ctx, path, &fd, NULL));
    char *buffer = cn_alloc(ctx, max_bytes + 1);
    size_t len = 0;
    ssize_t got = 1;
    while (buffer && got && len < max_bytes) {
        got = cn_sys_read(fd, buffer + len, max_bytes - len);
        if (got < 0 && errno == EINTR && !cn_cancelled(ctx)) continue;
        if (got < 0) break;
        len += (size_t)got;
    }
    const cn_status s = !buffer   ? CN_ENOMEM
                        : got < 0 ? cn_fail_io(ctx, "read", path, errno)
                                  : CN_OK;
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

cn_status cn_sync_parent(cn_ctx *ctx, const char *path)
{
    char dir[CN_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    const int n = !slash ? 0 : slash == path ? 1 : (int)(slash - path);
    CN_TRY(cn_format(ctx, dir, sizeof dir, "%.*s", n ? n : 1, n ? path : "."));
    const int fd = cn_sys_open(dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return errno == EACCES ? CN_OK : cn_fail_io(ctx, "open folder", dir, errno);
    const int error = cn_sys_fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
    close(fd);
    return error ? cn_fail_io(ctx, "sync folder", dir, error) : CN_OK;
}

cn_status cn_dir_make(cn_ctx *ctx, const char *path)
{
    char part[CN_PATH_BYTES];
    if (!path[0]) return cn_fail(ctx, CN_EINVAL, "cannot make a folder without a name");
    CN_TRY(cn_format(ctx, part, sizeof part, "%s", path));
    for (char *p = part + 1;; p++) {
        char c = *p;
        if (c != '/' && c) continue;
        *p = 0;
        if (cn_sys_mkdir(part) == 0)
            CN_TRY(cn_sync_parent(ctx, part));
        else if (!cn_dir_exists(part))
            return cn_file_exists(part)
                       ? cn_fail(ctx, CN_EIO, "cannot make folder \"%s\": it is a file", part)
                       : cn_fail_io(ctx, "make folder", part, errno);
        *p = c;
        if (!c) return CN_OK;
    }
}

/* --- folders ---------------------------------------------------------------------------------- */

struct cn_dir {
    cn_ctx *ctx;
    DIR *stream;
    char path[CN_PATH_BYTES];
};

cn_status cn_dir_open(cn_ctx *ctx, const char *path, cn_dir **out)
{
    cn_dir *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    cn_status s = cn_format(ctx, d->path, sizeof d->path, "%s", path);
    if (s == CN_OK && !(d->stream = cn_sys_opendir(path)))
        s = cn_fail_io(ctx, "read folder", path, errno);
    if (s != CN_OK) {
        cn_dir_close(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

cn_status cn_dir_next(cn_dir *d, const struct dirent **entry)
{
    const struct dirent *e = NULL;
    do {
        errno = 0; /* the end and a failure look alike otherwise */
        e = cn_sys_readdir(d->stream);
    } while (e && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")));
    if (!e && errno) return cn_fail_io(d->ctx, "read folder", d->path, errno);
    *entry = e;
    return CN_OK;
}

void cn_dir_close(cn_dir *d)
{
    if (!d) return;
    if (d->stream) closedir(d->stream);
    cn_free(d);
}

/* path[0 .. n) is the folder. What can't be removed is left, and said by the first failure. */
static cn_status remove_below(cn_ctx *ctx, char path[CN_PATH_BYTES], size_t n)
{
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    path[n] = 0;
    cn_status s = cn_dir_open(ctx, path, &d);
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e) {
        const size_t m = n + 1 + strlen(e->d_name);
        struct stat st;
        if (m >= CN_PATH_BYTES) continue;
        snprintf(path + n, CN_PATH_BYTES - n, "/%s", e->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            s = remove_below(ctx, path, m);
        else if (cn_sys_unlink(path) != 0)
            s = cn_fail_io(ctx, "remove", path, errno);
    }
    cn_dir_close(d);
    path[n] = 0;
    if (s == CN_OK && cn_sys_rmdir(path) != 0) s = cn_fail_io(ctx, "remove", path, errno);
    return s;
}

cn_status cn_dir_remove(cn_ctx *ctx, const char *dir)
{
    char path[CN_PATH_BYTES];
    struct stat st;
    if (lstat(dir, &st) != 0 && errno == ENOENT) return CN_OK;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s", dir));
    return remove_below(ctx, path, strlen(path));
}
