/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole files in and out.
 *
 * Writing is atomic: a reader sees the old file or the complete new one, also after a crash,
 * because the bytes are on disk before the rename and the folder's entry after it. What isn't a
 * regular file (a device, a pipe, a descriptor of the shell's) is written into, links are followed,
 * a file's mode stays.
 */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

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

cn_status cn_file_open(cn_ctx *ctx, const char *path, int *fd, size_t *bytes)
{
    struct stat st;
    const char *what = NULL;
    /* a pipe without a writer would be waited for here already */
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return fail_io(ctx, "open", path, errno);
    if (fstat(file, &st) != 0) {
        const int error = errno;
        close(file);
        return fail_io(ctx, "look at", path, error);
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
    FILE *f = fdopen(fd, "rb");
    if (!f) {
        const int error = errno;
        close(fd);
        return fail_io(ctx, "open", path, error);
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

/* Where a file's bytes end up: symbolic links of its last part are followed, also one to a file
 * that isn't there yet. Links within the folders before it are the system's business. */
static cn_status follow_links(cn_ctx *ctx, const char *path, char *out, size_t cap)
{
    char target[CN_PATH_BYTES], next[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, out, cap, "%s", path));
    for (int links = 0;; links++) {
        const ssize_t n = readlink(out, target, sizeof target - 1);
        if (n < 0) return CN_OK; /* EINVAL: no link; anything else shows when it is opened */
        if (links == MAX_LINKS) return fail_io(ctx, "write", path, ELOOP);
        target[n] = 0;
        const char *slash = strrchr(out, '/');
        if (target[0] == '/' || !slash)
            CN_TRY(cn_format(ctx, out, cap, "%s", target));
        else {
            CN_TRY(
                cn_format(ctx, next, sizeof next, "%.*s%s", (int)(slash - out + 1), out, target));
            CN_TRY(cn_format(ctx, out, cap, "%s", next));
        }
    }
}

/* Devices, pipes and descriptors are written into: a temporary file in their place would replace
 * them. A pipe that nobody reads is waited for until the run is cancelled. */
static cn_status open_special(cn_ctx *ctx, const char *path, int *fd)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    while ((*fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) < 0) {
        if (errno != ENXIO && errno != EINTR) return fail_io(ctx, "write", path, errno);
        if (cn_cancelled(ctx))
            return cn_fail(ctx, CN_ECANCELLED, "interrupted: nobody reads \"%s\"", path);
        nanosleep(&pause, NULL);
    }
    const int flags = fcntl(*fd, F_GETFL);
    if (flags >= 0) fcntl(*fd, F_SETFL, flags & ~O_NONBLOCK);
    return CN_OK;
}

/* A file of its own beside `path`. Its name holds no secret: O_EXCL makes it this process's, also
 * where another one with the same number writes into the folder (containers, network folders). */
static cn_status open_temporary(cn_ctx *ctx, cn_file_writer *w, int *fd)
{
    struct timespec t;
    uint64_t seed[3] = {(uint64_t)getpid(), (uint64_t)(uintptr_t)w, 0};
    for (int tries = 0; tries < 100; tries++) {
        clock_gettime(CLOCK_REALTIME, &t);
        seed[2] = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + (uint64_t)tries;
        CN_TRY(cn_format(ctx, w->tmp, sizeof w->tmp, "%s.tmp-%08" PRIx32, w->target,
                         (uint32_t)(cn_hash64(seed, sizeof seed) >> 32)));
        *fd = open(w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd >= 0) return CN_OK;
        if (errno != EEXIST) break;
    }
    return fail_io(ctx, "write", w->path, errno);
}

cn_status cn_writer_open(cn_ctx *ctx, const char *path, cn_file_writer *w)
{
    struct stat st;
    int fd = -1;
    *w = (cn_file_writer){0};
    CN_TRY(cn_format(ctx, w->path, sizeof w->path, "%s", path));
    CN_TRY(follow_links(ctx, path, w->target, sizeof w->target));
    /* what a link of /proc names may be gone or a file that the shell has opened: by descriptor */
    const bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) return fail_io(ctx, "write", path, EISDIR);
    if (there && (!S_ISREG(st.st_mode) || strncmp(w->target, "/proc/", 6) == 0 ||
                  strncmp(path, "/dev/", 5) == 0)) {
        w->tmp[0] = 0;
        CN_TRY(open_special(ctx, path, &fd));
    } else {
        if (there && faccessat(AT_FDCWD, w->target, W_OK, AT_EACCESS) != 0)
            return fail_io(ctx, "write", path, errno);
        CN_TRY(open_temporary(ctx, w, &fd));
        if (there && fchmod(fd, st.st_mode & 07777) != 0) {
            const int error = errno;
            close(fd);
            unlink(w->tmp);
            return fail_io(ctx, "write", path, error);
        }
        /* another's file stays theirs where this process may say so */
        const bool kept = !there || st.st_uid == geteuid() || fchown(fd, st.st_uid, st.st_gid) == 0;
        (void)kept;
    }
    w->f = fdopen(fd, "wb");
    if (!w->f) {
        const int error = errno;
        close(fd);
        if (w->tmp[0]) unlink(w->tmp);
        return fail_io(ctx, "write", path, error);
    }
    return CN_OK;
}

/* Puts the rename itself on disk. Some file systems cannot sync a folder (EINVAL): no failure. */
static cn_status sync_parent(cn_ctx *ctx, const char *path)
{
    char dir[CN_PATH_BYTES];
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
    const bool special = !w->tmp[0];
    int error = 0;
    if (ferror(w->f)) error = EIO;
    if (fflush(w->f) != 0 && (!error || special)) error = errno;
    if (!error && fsync(fileno(w->f)) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
        error = errno;
    if (fclose(w->f) != 0 && !error) error = errno;
    w->f = NULL;
    if (special) return error ? fail_io(ctx, "write", w->path, error) : CN_OK;
    if (!error && rename(w->tmp, w->target) != 0) error = errno;
    if (error) {
        unlink(w->tmp);
        return fail_io(ctx, "write", w->path, error);
    }
    return sync_parent(ctx, w->target);
}

void cn_writer_abort(cn_file_writer *w)
{
    if (!w || !w->f) return;
    fclose(w->f);
    w->f = NULL;
    if (w->tmp[0]) unlink(w->tmp);
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
    char part[CN_PATH_BYTES];
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
    if (s == CN_OK && !(d->stream = opendir(path))) s = fail_io(ctx, "read folder", path, errno);
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
        e = readdir(d->stream);
    } while (e && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")));
    if (!e && errno) return fail_io(d->ctx, "read folder", d->path, errno);
    *entry = e;
    return CN_OK;
}

void cn_dir_close(cn_dir *d)
{
    if (!d) return;
    if (d->stream) closedir(d->stream);
    cn_free(d);
}
