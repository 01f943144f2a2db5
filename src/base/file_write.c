/* SPDX-License-Identifier: Apache-2.0 */
/* file_write.c - files out.
 *
 * Writing is atomic: a reader sees the old file or the complete new one, also after a crash,
 * because the bytes are on disk before the rename and the folder's entry after it. What isn't a
 * regular file (a device, a pipe, a descriptor of the shell's) is written into, links are followed,
 * a file's mode stays. What a killed process leaves is a temporary file that nobody holds locked.
 */
#include "base/lock.h"
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LINKS = 40, RANDOM_DIGITS = 8, MAX_DEPTH = 8 };

static const char mark[] = ".tmp-"; /* then RANDOM_DIGITS hexadecimal ones */

/* Where a file's bytes end up: symbolic links of its last part are followed, also one to a file
 * that isn't there yet. Links within the folders before it are the system's business. */
static cn_status follow_links(cn_ctx *ctx, const char *path, char *out, size_t cap)
{
    char target[CN_PATH_BYTES], next[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, out, cap, "%s", path));
    for (int links = 0;; links++) {
        const ssize_t n = readlink(out, target, sizeof target - 1);
        if (n < 0) return CN_OK; /* EINVAL: no link; anything else shows when it is opened */
        if (links == MAX_LINKS) return cn_fail_io(ctx, "write", path, ELOOP);
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
    while ((*fd = cn_sys_open(path, O_WRONLY | O_NONBLOCK, 0)) < 0) {
        if (errno != ENXIO && errno != EINTR) return cn_fail_io(ctx, "write", path, errno);
        if (cn_cancelled(ctx))
            return cn_fail(ctx, CN_ECANCELLED, "interrupted: nobody reads \"%s\"", path);
        nanosleep(&pause, NULL);
    }
    const int flags = fcntl(*fd, F_GETFL);
    if (flags >= 0) fcntl(*fd, F_SETFL, flags & ~O_NONBLOCK);
    return CN_OK;
}

static bool is_temporary(const char *name)
{
    const size_t n = strlen(name), end = sizeof mark - 1 + RANDOM_DIGITS;
    return n > end && strncmp(name + n - end, mark, sizeof mark - 1) == 0 &&
           strspn(name + n - RANDOM_DIGITS, "0123456789abcdef") == RANDOM_DIGITS;
}

/* Removes a temporary file that no process holds. */
static void remove_stale(const char *path)
{
    struct stat a, b;
    const int fd = cn_sys_open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) return;
    if (cn_sys_flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &a) == 0 && S_ISREG(a.st_mode) &&
        lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        cn_sys_unlink(path);
    close(fd);
}

/* Locks a file that was just made. False: it was taken for one that a killed process left, and is
 * gone again. A file system without locks leaves nothing to be taken for such a one. */
static bool hold(int fd)
{
    struct stat st;
    const bool locked = cn_sys_flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    return locked && (fstat(fd, &st) != 0 || st.st_nlink > 0);
}

/* A file of its own beside `path`. Its names follow from the path alone, so that what a killed
 * process left is met by whoever writes there next, and removed; what another process is writing is
 * passed over. O_EXCL makes it this process's, also in folders of other machines. */
static cn_status open_temporary(cn_ctx *ctx, cn_file_writer *w, int *fd)
{
    const uint64_t name = cn_hash64(w->target, strlen(w->target));
    int error = EEXIST;
    for (uint32_t tries = 0; tries < 100 && error == EEXIST; tries++) {
        CN_TRY(cn_format(ctx, w->tmp, sizeof w->tmp, "%s%s%08" PRIx32, w->target, mark,
                         (uint32_t)(name >> 32) + tries / 2));
        *fd = cn_sys_open(w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
        error = *fd < 0 ? errno : 0;
        if (*fd >= 0 && hold(*fd)) return CN_OK;
        if (*fd >= 0) {
            close(*fd);
            error = EEXIST;
        } else if (error == EEXIST && tries % 2 == 0) {
            remove_stale(w->tmp);
        }
    }
    return cn_fail_io(ctx, "write", w->path, error);
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
    if (there && S_ISDIR(st.st_mode)) return cn_fail_io(ctx, "write", path, EISDIR);
    if (there && (!S_ISREG(st.st_mode) || strncmp(w->target, "/proc/", 6) == 0 ||
                  strncmp(path, "/dev/", 5) == 0)) {
        w->tmp[0] = 0;
        CN_TRY(open_special(ctx, path, &fd));
    } else {
        if (there && faccessat(AT_FDCWD, w->target, W_OK, AT_EACCESS) != 0)
            return cn_fail_io(ctx, "write", path, errno);
        CN_TRY(open_temporary(ctx, w, &fd));
        if (there && fchmod(fd, st.st_mode & 07777) != 0) {
            const int error = errno;
            close(fd);
            cn_sys_unlink(w->tmp);
            return cn_fail_io(ctx, "write", path, error);
        }
        /* another's file stays theirs where this process may say so */
        const bool kept = !there || st.st_uid == geteuid() || fchown(fd, st.st_uid, st.st_gid) == 0;
        (void)kept;
    }
    w->fd = fd;
    w->f = cn_sys_stream(fd, "wb");
    if (!w->f) {
        const int error = errno;
        close(fd);
        if (w->tmp[0]) cn_sys_unlink(w->tmp);
        return cn_fail_io(ctx, "write", path, error);
    }
    return CN_OK;
}

cn_status cn_writer_commit(cn_ctx *ctx, cn_file_writer *w)
{
    const bool special = !w->tmp[0];
    int error = 0;
    if (ferror(w->f)) error = EIO;
    if (fflush(w->f) != 0 && (!error || special)) error = errno;
    if (!error && cn_sys_fsync(w->fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
        error = errno;
    if (fclose(w->f) != 0 && !error) error = errno;
    w->f = NULL;
    if (special) return error ? cn_fail_io(ctx, "write", w->path, error) : CN_OK;
    if (!error && cn_sys_rename(w->tmp, w->target) != 0) error = errno;
    if (error) {
        cn_sys_unlink(w->tmp);
        return cn_fail_io(ctx, "write", w->path, error);
    }
    return cn_sync_parent(ctx, w->target);
}

void cn_writer_abort(cn_file_writer *w)
{
    if (!w || !w->f) return;
    fclose(w->f);
    w->f = NULL;
    if (w->tmp[0]) cn_sys_unlink(w->tmp);
}

cn_status cn_file_write(cn_ctx *ctx, const char *path, const void *data, size_t n)
{
    cn_file_writer w;
    CN_TRY(cn_writer_open(ctx, path, &w));
    if (n && fwrite(data, 1, n, w.f) != n) {
        int error = errno;
        cn_writer_abort(&w);
        return cn_fail_io(ctx, "write", path, error);
    }
    return cn_writer_commit(ctx, &w);
}

/* --- what killed processes left --------------------------------------------------------------- */

/* path[0 .. n) is the folder; depth: how many levels of folders in it are looked at too. */
static cn_status clear(cn_ctx *ctx, char path[CN_PATH_BYTES], size_t n, int depth)
{
    cn_dir *d = NULL;
    const struct dirent *e = NULL;
    path[n] = 0;
    CN_TRY(cn_dir_open(ctx, path, &d));
    cn_status s = CN_OK;
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e) {
        const bool below = depth > 0 && e->d_type == DT_DIR;
        const size_t m = n + 1 + strlen(e->d_name);
        if (m >= CN_PATH_BYTES || (!below && !is_temporary(e->d_name))) continue;
        snprintf(path + n, CN_PATH_BYTES - n, "/%s", e->d_name);
        if (below)
            s = clear(ctx, path, m, depth - 1);
        else
            remove_stale(path);
    }
    cn_dir_close(d);
    return s;
}

cn_status cn_dir_clear_temporary(cn_ctx *ctx, const char *dir)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s", dir));
    return clear(ctx, path, strlen(path), MAX_DEPTH);
}
