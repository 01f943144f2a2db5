/* SPDX-License-Identifier: Apache-2.0 */
/* sys.c - see sys.h. */
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* before, the call itself, after; `type` is that of its result */
#define MAKE(type, expr, ...)                              \
    do {                                                   \
        const cn_sys_call call_ = {__VA_ARGS__};           \
        type result_ = (type)-1;                           \
        if (cn_sys_before(&call_)) result_ = (type)(expr); \
        const int error_ = errno;                          \
        cn_sys_after(&call_, (int64_t)result_);            \
        errno = error_;                                    \
        return result_;                                    \
    } while (0)

int cn_sys_open(const char *path, int flags, mode_t mode)
{
    MAKE(int, open(path, flags | O_CLOEXEC | O_NOCTTY, mode), .kind = CN_SYS_OPEN, .path = path,
         .n = (size_t)flags);
}

ssize_t cn_sys_read(int fd, void *bytes, size_t n)
{
    MAKE(ssize_t, read(fd, bytes, n), .kind = CN_SYS_READ, .fd = fd);
}

ssize_t cn_sys_pread(int fd, void *bytes, size_t n, int64_t at)
{
    MAKE(ssize_t, pread(fd, bytes, n, (off_t)at), .kind = CN_SYS_READ, .fd = fd);
}

ssize_t cn_sys_write(int fd, const void *bytes, size_t n)
{
    MAKE(ssize_t, write(fd, bytes, n), .kind = CN_SYS_WRITE, .fd = fd, .bytes = bytes, .n = n,
         .at = -1);
}

ssize_t cn_sys_pwrite(int fd, const void *bytes, size_t n, int64_t at)
{
    MAKE(ssize_t, pwrite(fd, bytes, n, (off_t)at), .kind = CN_SYS_WRITE, .fd = fd, .bytes = bytes,
         .n = n, .at = at);
}

int cn_sys_rename(const char *from, const char *to)
{
    MAKE(int, rename(from, to), .kind = CN_SYS_RENAME, .path = from, .to = to);
}

int cn_sys_exchange(const char *a, const char *b)
{
    MAKE(int, renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), .kind = CN_SYS_RENAME,
         .path = a, .to = b, .exchange = true);
}

int cn_sys_fsync(int fd)
{
    MAKE(int, fsync(fd), .kind = CN_SYS_FSYNC, .fd = fd);
}

void *cn_sys_map(int fd, size_t n)
{
    const cn_sys_call call = {.kind = CN_SYS_MMAP, .fd = fd, .n = n};
    if (!cn_sys_before(&call)) return NULL;
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

int cn_sys_flock(int fd, int how)
{
    MAKE(int, flock(fd, how), .kind = CN_SYS_LOCK, .fd = fd);
}

int cn_sys_lock_file(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    MAKE(int, fcntl(fd, F_OFD_SETLK, &whole), .kind = CN_SYS_LOCK, .fd = fd);
}

int cn_sys_truncate(int fd, int64_t n)
{
    MAKE(int, ftruncate(fd, (off_t)n), .kind = CN_SYS_TRUNCATE, .fd = fd, .at = n);
}

static int reserve(int fd, int64_t n)
{
    errno = posix_fallocate(fd, 0, (off_t)n);
    return errno ? -1 : 0;
}

int cn_sys_reserve(int fd, int64_t n)
{
    MAKE(int, reserve(fd, n), .kind = CN_SYS_TRUNCATE, .fd = fd, .at = n);
}

int cn_sys_mkdir(const char *path)
{
    MAKE(int, mkdir(path, 0777), .kind = CN_SYS_MKDIR, .path = path);
}

int cn_sys_unlink(const char *path)
{
    MAKE(int, unlink(path), .kind = CN_SYS_UNLINK, .path = path);
}

int cn_sys_rmdir(const char *path)
{
    MAKE(int, rmdir(path), .kind = CN_SYS_UNLINK, .path = path);
}

void *cn_sys_alloc(size_t align, size_t n)
{
    const cn_sys_call call = {.kind = CN_SYS_ALLOC, .n = n};
    return cn_sys_before(&call) ? aligned_alloc(align, n) : NULL;
}

void *cn_sys_reserve_memory(size_t n)
{
    const cn_sys_call call = {.kind = CN_SYS_ALLOC, .n = n};
    if (!cn_sys_before(&call)) return NULL;
    void *p =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* --- streams ---------------------------------------------------------------------------------- */

/* The cookie is the descriptor: stdio's own streams make their calls where nobody sees them. */

static ssize_t stream_read(void *cookie, char *bytes, size_t n)
{
    return cn_sys_read((int)(intptr_t)cookie, bytes, n);
}

/* stdio takes less than n for a failure. */
static ssize_t stream_write(void *cookie, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        const ssize_t k = cn_sys_write((int)(intptr_t)cookie, bytes + done, n - done);
        if (k <= 0) break;
        done += (size_t)k;
    }
    return (ssize_t)done;
}

static int stream_seek(void *cookie, off64_t *at, int whence)
{
    const off_t to = lseek((int)(intptr_t)cookie, (off_t)*at, whence);
    *at = to;
    return to < 0 ? -1 : 0;
}

static int stream_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

FILE *cn_sys_stream(int fd, const char *mode)
{
    const cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
    return fopencookie((void *)(intptr_t)fd, mode, calls);
}

/* --- folders ---------------------------------------------------------------------------------- */

DIR *cn_sys_opendir(const char *path)
{
    const cn_sys_call call = {.kind = CN_SYS_READDIR, .path = path};
    return cn_sys_before(&call) ? opendir(path) : NULL;
}

struct dirent *cn_sys_readdir(DIR *d)
{
    const cn_sys_call call = {.kind = CN_SYS_READDIR};
    return cn_sys_before(&call) ? readdir(d) : NULL;
}

/* --- failures --------------------------------------------------------------------------------- */

cn_status cn_fail_io(cn_ctx *ctx, const char *what, const char *path, int error)
{
    char buffer[128];
    return cn_fail(ctx, CN_EIO, "cannot %s \"%s\": %s", what, path,
                   strerror_r(error, buffer, sizeof buffer));
}
