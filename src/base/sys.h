/* SPDX-License-Identifier: Apache-2.0 */
/* sys.h - calls to the operating system, and how they fail.
 *
 * Everything the library asks of files, folders, locks and memory goes through these (make lint
 * looks), so that one place can make the n-th of them fail: cn_sys_before is asked first. The
 * library's own (sys_hooks.c) lets all pass; tests/faults has another one. Each is the call it is
 * named after, but that it never waits for a pipe's other end or leaves a descriptor to a child.
 */
#ifndef CN_BASE_SYS_H
#define CN_BASE_SYS_H

#include "base/base.h"

#include <dirent.h>
#include <sys/types.h>

typedef enum cn_sys_kind {
    CN_SYS_OPEN,
    CN_SYS_READ,
    CN_SYS_WRITE,
    CN_SYS_RENAME,
    CN_SYS_FSYNC,
    CN_SYS_READDIR, /* opening a folder too */
    CN_SYS_MMAP,
    CN_SYS_LOCK,
    CN_SYS_TRUNCATE, /* and reserving room */
    CN_SYS_MKDIR,
    CN_SYS_UNLINK,
    CN_SYS_ALLOC,
    CN_SYS_DEVICE_MEMORY, /* of a GPU: there is none left */
    CN_SYS_DEVICE_RUN,    /* work sent to a GPU: it is lost */
    CN_SYS_KINDS
} cn_sys_kind;

/* A call about to be made; what doesn't belong to its kind is 0. */
typedef struct cn_sys_call {
    cn_sys_kind kind;
    int fd;
    const char *path, *to; /* to: where it is renamed to */
    const void *bytes;     /* n of them are written at `at`; -1: where the file is, or its end */
    size_t n;
    int64_t at;
    bool exchange; /* of a rename */
} cn_sys_call;

/* False: the call isn't made and fails with errno as it is set. */
bool cn_sys_before(const cn_sys_call *call);
/* What it came to: a result below 0 is a failure. */
void cn_sys_after(const cn_sys_call *call, int64_t result);

int cn_sys_open(const char *path, int flags, mode_t mode);
ssize_t cn_sys_read(int fd, void *bytes, size_t n);
ssize_t cn_sys_pread(int fd, void *bytes, size_t n, int64_t at);
ssize_t cn_sys_write(int fd, const void *bytes, size_t n);
ssize_t cn_sys_pwrite(int fd, const void *bytes, size_t n, int64_t at);
int cn_sys_rename(const char *from, const char *to);
/* Exchanges two names. */
int cn_sys_exchange(const char *a, const char *b);
int cn_sys_fsync(int fd);
/* A whole file, for reading; NULL with errno set. */
void *cn_sys_map(int fd, size_t n);
int cn_sys_flock(int fd, int how);
/* The lock of an open file on all its bytes (F_OFD_SETLK), for writing; doesn't wait. */
int cn_sys_lock_file(int fd);
int cn_sys_truncate(int fd, int64_t n);
int cn_sys_reserve(int fd, int64_t n);
int cn_sys_mkdir(const char *path);
int cn_sys_unlink(const char *path);
int cn_sys_rmdir(const char *path);
/* Aligned memory, and address space whose pages come when they are touched; NULL without. */
void *cn_sys_alloc(size_t align, size_t n);
void *cn_sys_reserve_memory(size_t n);
/* A stream over a descriptor, which closes with it; mode as of fdopen. */
FILE *cn_sys_stream(int fd, const char *mode);
DIR *cn_sys_opendir(const char *path);
struct dirent *cn_sys_readdir(DIR *d);

/* Puts the names in the folder that `path` lies in on disk: a new file's, a renamed one's. File
 * systems that can't, and folders that may not be read, are no failure. */
cn_status cn_sync_parent(cn_ctx *ctx, const char *path) CN_CHECKED;
/* CN_EIO: "cannot WHAT "PATH": the system's reason for `error`". */
cn_status cn_fail_io(cn_ctx *ctx, const char *what, const char *path, int error);

#endif
