/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - one run at a time writes into a folder.
 *
 * FOLDER/.controlnet-lock says who: process, host, time. What counts is a byte-range lock on it of
 * the open file (F_OFD_SETLK): the system drops it with the process, however that ends, so nothing
 * is left to clear away by hand; it holds between containers on one machine, whose process numbers
 * mean nothing to each other, and between machines where the file system has a lock manager, as NFS
 * does. On one without locks the file itself is the lock: made with O_EXCL, and taken over once its
 * process is known to be gone, which can be known on its own machine and in its own process
 * namespace alone.
 */
#include "base/lock.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_BYTES = 512, TRIES = 50, PAUSE_NS = 10000000 };

static const char lock_name[] = "/.controlnet-lock";

struct cn_dir_lock {
    int fd;
    char path[CN_PATH_BYTES];
};

/* --- who ----------------------------------------------------------------------------------- */

/* When a process was started, in ticks since the machine was; 0 where there is none. */
static unsigned long long started(long pid)
{
    char path[64], *text = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (cn_file_read_head(NULL, path, 1024, &text, &n) != CN_OK) return 0;
    const char *at = strrchr(text, ')'); /* a program's name may hold blanks and brackets */
    for (int field = 2; at && field < 22; field++)
        if ((at = strchr(at, ' '))) at++;
    const unsigned long long ticks = at ? strtoull(at, NULL, 10) : 0;
    cn_free(text);
    return ticks;
}

/* The machine since its start, and the namespace that process numbers are of. */
static void describe_place(char out[128])
{
    struct stat st = {0};
    char *boot = NULL;
    size_t n = 0;
    if (stat("/proc/self/ns/pid", &st) != 0) st.st_ino = 0;
    if (cn_file_read_head(NULL, "/proc/sys/kernel/random/boot_id", 64, &boot, &n) != CN_OK) n = 0;
    if (n) boot[strcspn(boot, "\n")] = 0;
    snprintf(out, 128, "%s/%llu", n ? boot : "?", (unsigned long long)st.st_ino);
    cn_free(boot);
}

static void describe_self(char out[TEXT_BYTES])
{
    char host[128] = "", place[128], when[64];
    struct tm tm;
    const time_t now = time(NULL);
    if (gethostname(host, sizeof host - 1) != 0 || !host[0]) memcpy(host, "?", 2);
    describe_place(place);
    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    snprintf(out, TEXT_BYTES, "%ld %s %s %llu %s\n", (long)getpid(), host, when,
             started((long)getpid()), place);
}

typedef struct holder {
    long pid;
    char host[128], since[64], place[128];
    unsigned long long started;
} holder;

static bool read_holder(const char *path, holder *h)
{
    char text[TEXT_BYTES];
    const int fd = cn_sys_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) return false;
    const ssize_t n = cn_sys_pread(fd, text, sizeof text - 1, 0);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0 && text[n - 1] == '\n' &&
           sscanf(text, "%ld %127s %63s %llu %127s", &h->pid, h->host, h->since, &h->started,
                  h->place) == 5;
}

/* Whether it is certain that the process has ended; its number may be another's by now. */
static bool is_gone(const holder *h)
{
    char place[128];
    describe_place(place);
    return strcmp(place, h->place) == 0 && place[0] != '?' && started(h->pid) != h->started;
}

/* A holder that has only just made its file has written nothing yet. */
static cn_status refuse(cn_ctx *ctx, const char *dir, const char *path, const char *hint)
{
    holder h;
    bool known = false;
    for (int i = 0; i < TRIES && !(known = read_holder(path, &h)); i++)
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    if (!known) return cn_fail(ctx, CN_EIO, "%s: in use by another process (%s)", dir, path);
    return cn_fail(ctx, CN_EIO, "%s: in use by process %ld on %s since %s%s", dir, h.pid, h.host,
                   h.since, hint);
}

/* --- taking it ----------------------------------------------------------------------------- */

/* Whether what is open is still what the name leads to: a holder that ends removes it. */
static bool is_current(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static bool write_self(int fd)
{
    char text[TEXT_BYTES];
    describe_self(text);
    const ssize_t n = (ssize_t)strlen(text);
    return cn_sys_truncate(fd, 0) == 0 && cn_sys_pwrite(fd, text, (size_t)n, 0) == n;
}

/* Where the system has no locks. The stale file is moved aside first, which one of several can do,
 * and looked at again: it may be a new holder's by then. */
static cn_status lock_by_file(cn_ctx *ctx, const char *dir, cn_dir_lock *l)
{
    holder h;
    char aside[CN_PATH_BYTES + 32];
    for (int i = 0; i < TRIES; i++) {
        l->fd = cn_sys_open(l->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
        if (l->fd >= 0) return write_self(l->fd) ? CN_OK : cn_fail_io(ctx, "lock", l->path, errno);
        if (errno != EEXIST) return cn_fail_io(ctx, "lock", l->path, errno);
        if (!read_holder(l->path, &h)) {
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
            continue;
        }
        if (!is_gone(&h)) break;
        CN_TRY(cn_format(ctx, aside, sizeof aside, "%s-%ld", l->path, (long)getpid()));
        if (cn_sys_rename(l->path, aside) != 0) continue;
        if (read_holder(aside, &h) && !is_gone(&h)) {
            const bool back = link(aside, l->path) == 0;
            cn_sys_unlink(aside);
            if (back) break;
            continue;
        }
        cn_sys_unlink(aside);
    }
    l->path[0] = 0; /* not this one's to remove */
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s%s", dir, lock_name));
    return refuse(ctx, dir, path, "; its file .controlnet-lock can be removed if it has ended");
}

static cn_status take(cn_ctx *ctx, const char *dir, cn_dir_lock *l)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s%s", dir, lock_name));
    for (int i = 0; i < TRIES; i++) {
        l->fd = cn_sys_open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (l->fd < 0) return cn_fail_io(ctx, "lock", path, errno);
        if (cn_sys_lock_file(l->fd) != 0) {
            const int error = errno;
            struct stat st;
            const bool empty = fstat(l->fd, &st) == 0 && !st.st_size;
            close(l->fd);
            l->fd = -1;
            if (error == EAGAIN || error == EACCES) return refuse(ctx, dir, path, "");
            if (error == EINTR) continue;
            if (error != ENOLCK && error != ENOSYS && error != EOPNOTSUPP && error != EINVAL)
                return cn_fail_io(ctx, "lock", path, error);
            if (empty) cn_sys_unlink(path);
            memcpy(l->path, path, sizeof path);
            return lock_by_file(ctx, dir, l);
        }
        if (is_current(l->fd, path)) {
            memcpy(l->path, path, sizeof path);
            return write_self(l->fd) ? CN_OK : cn_fail_io(ctx, "lock", path, errno);
        }
        close(l->fd);
        l->fd = -1;
    }
    return cn_fail(ctx, CN_EIO, "%s: in use by other processes, one after another", dir);
}

cn_status cn_dir_lock_take(cn_ctx *ctx, const char *dir, cn_dir_lock **out)
{
    CN_TRY(cn_dir_make(ctx, dir));
    cn_dir_lock *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->fd = -1;
    cn_status s = take(ctx, dir, l);
    if (s == CN_OK) s = cn_dir_clear_temporary(ctx, dir);
    if (s == CN_OK)
        *out = l;
    else
        cn_dir_lock_drop(l);
    return s;
}

/* Removed while it is still held: whoever has it open by now sees that it is no longer the file. */
void cn_dir_lock_drop(cn_dir_lock *l)
{
    if (!l) return;
    if (l->path[0]) cn_sys_unlink(l->path);
    if (l->fd >= 0) close(l->fd);
    cn_free(l);
}
