/* SPDX-License-Identifier: Apache-2.0 */
/* faults.c - the program with calls that fail or take long, and with a record of what it did to its
 * files.
 *
 *   CN_FAIL=KIND:N:ERRNO   the N-th call of the kind (from 1 on) fails; KIND:N+:ERRNO: all from it
 *                          on
 *   CN_FAIL_TOLD=FILE      how many calls of each kind there were, "KIND N" a line, and whether the
 *                          failure came ("failed"); written as the program ends or is told to
 *   CN_FAIL_PLACES=KIND    the same file tells of each place in the code, with its last callers,
 *                          that makes calls of the kind: its first and its last ("place N M")
 *   CN_DELAY=KIND:MS       each call of the kind takes so long more, as from a disk far away
 *   CN_RECORD=FILE         every change to files, to be replayed (replay.c)
 *
 * Stands before the library's sys_hooks.o, in build/tests/controlnet-faults alone. Its own calls go
 * past the hooks.
 */
#include "base/sys.h"
#include "io/json.h"

#include "record.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const names[CN_SYS_KINDS] = {
    "open", "read",     "write", "rename", "fsync", "readdir",      "mmap",
    "lock", "truncate", "mkdir", "unlink", "alloc", "devicememory", "devicerun"};

/* A stack of calls, by its addresses' hash. */
typedef struct place {
    uint64_t hash; /* 0: none */
    long first, last;
} place;

enum { PLACES = 1 << 16, CALLERS = 7 };

static struct {
    pthread_once_t once;
    pthread_mutex_t lock; /* of the record */
    int kind;             /* -1: none fails */
    long n;
    bool all;
    int error;
    const char *told;
    int slow; /* kind of call that takes delay_ms more; -1: none */
    long delay_ms;
    int record; /* -1: none */
    int placed; /* kind whose places are told; -1: none */
    place *places;
    _Atomic long counts[CN_SYS_KINDS];
    atomic_bool failed;
} faults = {.once = PTHREAD_ONCE_INIT,
            .lock = PTHREAD_MUTEX_INITIALIZER,
            .kind = -1,
            .slow = -1,
            .record = -1,
            .placed = -1};

static int error_of(const char *name)
{
    static const struct {
        const char *name;
        int error;
    } known[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"ENOMEM", ENOMEM}, {"EACCES", EACCES},
                 {"EINTR", EINTR},   {"ENOLCK", ENOLCK}, {"EMFILE", EMFILE}, {"EINVAL", EINVAL},
                 {"EXDEV", EXDEV},   {"EROFS", EROFS}};
    for (size_t i = 0; i < CN_COUNT(known); i++)
        if (strcmp(known[i].name, name) == 0) return known[i].error;
    return EIO;
}

static void tell(void)
{
    if (!faults.told) return;
    FILE *f = fopen(faults.told, "w");
    if (!f) return;
    for (int k = 0; k < CN_SYS_KINDS; k++) fprintf(f, "%s %ld\n", names[k], faults.counts[k]);
    for (int i = 0; faults.places && i < PLACES; i++) {
        const place *p = &faults.places[i];
        if (p->hash) fprintf(f, "place %ld %ld\n", p->first, p->last);
    }
    if (faults.failed) fputs("failed\n", f);
    fclose(f);
}

static int kind_of(const char *name)
{
    for (int k = 0; k < CN_SYS_KINDS; k++)
        if (strcmp(names[k], name) == 0) return k;
    return -1;
}

static void read_environment(void)
{
    const char *wanted = getenv("CN_FAIL"), *record = getenv("CN_RECORD"),
               *slow = getenv("CN_DELAY"), *placed = getenv("CN_FAIL_PLACES");
    char kind[32], error[32];
    faults.told = getenv("CN_FAIL_TOLD");
    if (record) faults.record = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (wanted && sscanf(wanted, "%31[a-z]:%ld", kind, &faults.n) == 2) {
        const char *last = strrchr(wanted, ':');
        snprintf(error, sizeof error, "%s", last + 1);
        faults.all = last > wanted && last[-1] == '+';
        faults.error = error_of(error);
        faults.kind = kind_of(kind);
    }
    if (slow && sscanf(slow, "%31[a-z]:%ld", kind, &faults.delay_ms) == 2)
        faults.slow = kind_of(kind);
    if (placed && (faults.places = calloc(PLACES, sizeof *faults.places)))
        faults.placed = kind_of(placed);
    atexit(tell);
}

/* jansson's memory counts with the library's own, but for what it takes while it reads a text. */
static void *take_for_json(size_t n)
{
    if (cn_json_parsing) return malloc(n);
    const cn_sys_call call = {.kind = CN_SYS_ALLOC, .n = n};
    return cn_sys_before(&call) ? malloc(n) : NULL;
}

__attribute__((constructor)) static void count_json(void)
{
    json_set_alloc_funcs(take_for_json, free);
}

/* The n-th call comes from here. Of more places than fit the rest isn't told. */
static void note_place(long n)
{
    void *callers[CALLERS];
    const int depth = backtrace(callers, CALLERS);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (int i = 0; i < depth; i++)
        hash = (hash ^ (uint64_t)(uintptr_t)callers[i]) * 1099511628211u;
    pthread_mutex_lock(&faults.lock);
    for (int i = 0; i < PLACES; i++) {
        place *p = &faults.places[(hash + (uint64_t)i) % PLACES];
        if (p->hash && p->hash != hash) continue;
        if (!p->hash) *p = (place){.hash = hash, .first = n};
        p->last = n;
        break;
    }
    pthread_mutex_unlock(&faults.lock);
}

bool cn_sys_before(const cn_sys_call *call)
{
    pthread_once(&faults.once, read_environment);
    const long n = atomic_fetch_add(&faults.counts[call->kind], 1) + 1;
    if ((int)call->kind == faults.placed) note_place(n);
    if ((int)call->kind == faults.slow)
        nanosleep(&(struct timespec){faults.delay_ms / 1000, faults.delay_ms % 1000 * 1000000},
                  NULL);
    if ((int)call->kind != faults.kind || n < faults.n || (n > faults.n && !faults.all))
        return true;
    faults.failed = true;
    errno = faults.error;
    return false;
}

/* --- the record ------------------------------------------------------------------------------- */

/* Paths are made absolute; a descriptor is told by the file's number. */
static void put(const cn_sys_call *c, int op, int64_t at, int64_t ino, const char *path,
                const char *to)
{
    char here[4096] = "", full[2][8192] = {"", ""};
    const char *given[2] = {path, to};
    for (int i = 0; i < 2; i++) {
        if (!given[i]) continue;
        if (given[i][0] != '/' && !here[0] && !getcwd(here, sizeof here)) here[0] = 0;
        snprintf(full[i], sizeof full[i], "%s%s%s", given[i][0] == '/' ? "" : here,
                 given[i][0] == '/' ? "" : "/", given[i]);
    }
    record_head h = {.op = op,
                     .ino = ino,
                     .at = at,
                     .bytes = op == RECORD_WRITE ? (int64_t)c->n : 0,
                     .path = (int32_t)strlen(full[0]),
                     .to = (int32_t)strlen(full[1])};
    pthread_mutex_lock(&faults.lock);
    const bool ok = write(faults.record, &h, sizeof h) == sizeof h &&
                    write(faults.record, full[0], (size_t)h.path) == h.path &&
                    write(faults.record, full[1], (size_t)h.to) == h.to &&
                    write(faults.record, c->bytes, (size_t)h.bytes) == h.bytes;
    pthread_mutex_unlock(&faults.lock);
    if (!ok) abort();
}

static int64_t number_of(int fd, int64_t *size, bool *folder)
{
    struct stat st = {0};
    if (fstat(fd, &st) != 0) return 0;
    if (size) *size = st.st_size;
    if (folder) *folder = S_ISDIR(st.st_mode);
    return (int64_t)st.st_ino;
}

static void path_of(int fd, char out[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, out, 4095);
    out[n > 0 ? n : 0] = 0;
}

void cn_sys_after(const cn_sys_call *c, int64_t result)
{
    char path[4096];
    int64_t size = 0, ino;
    bool folder = false;
    struct stat st;
    if (faults.record < 0 || result < 0) return;
    switch (c->kind) {
    case CN_SYS_OPEN:
        if (((int)c->n & (O_CREAT | O_TRUNC)) == 0) break;
        if (fstat((int)result, &st) == 0 && S_ISREG(st.st_mode))
            put(c, RECORD_OPEN, (int)c->n & O_TRUNC, (int64_t)st.st_ino, c->path, NULL);
        break;
    case CN_SYS_WRITE: {
        cn_sys_call part = *c;
        part.n = (size_t)result;
        ino = number_of(c->fd, &size, NULL);
        int64_t at = c->at;
        if (at < 0) {
            const int flags = fcntl(c->fd, F_GETFL);
            at = flags & O_APPEND ? size - result : (int64_t)lseek(c->fd, 0, SEEK_CUR) - result;
        }
        put(&part, RECORD_WRITE, at, ino, NULL, NULL);
        break;
    }
    case CN_SYS_TRUNCATE:
        put(c, RECORD_TRUNCATE, c->at, number_of(c->fd, NULL, NULL), NULL, NULL);
        break;
    case CN_SYS_FSYNC:
        ino = number_of(c->fd, NULL, &folder);
        path_of(c->fd, path);
        put(c, folder ? RECORD_SYNC_DIR : RECORD_SYNC, 0, ino, path, NULL);
        break;
    case CN_SYS_RENAME:
        put(c, c->exchange ? RECORD_EXCHANGE : RECORD_RENAME, 0, 0, c->path, c->to);
        break;
    case CN_SYS_MKDIR: put(c, RECORD_MKDIR, 0, 0, c->path, NULL); break;
    case CN_SYS_UNLINK: put(c, RECORD_UNLINK, 0, 0, c->path, NULL); break;
    default: break;
    }
}
