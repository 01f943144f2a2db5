/* SPDX-License-Identifier: Apache-2.0 */
/* context.c - the context: last error, log target, cancel flag, number of threads.
 *
 * Every function takes a NULL context and then does nothing, so that code below can be used without
 * one. Messages may come from worker threads, hence the lock; the cancel flag is set from signal
 * handlers, hence a lock-free atomic.
 */
#include "base/base.h"

#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 2048 };

struct cn_ctx {
    pthread_mutex_t lock; /* guards error */
    char error[MESSAGE_BYTES];
    void (*log)(void *user, cn_log_level level, const char *line);
    void *log_user;
    atomic_bool cancelled;
    bool cancel_held;
    const cn_ctx *follows; /* whose cancel counts too; NULL */
    int64_t max_pixels;
    _Atomic int64_t allocs_left; /* < 0: no limit */
    int threads;
};

/* The CPU time a container may use, in whole cores (cgroup v2's "quota period", rounded up); 0 when
 * there is no limit. */
static int quota_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return 0;
    double quota = 0, period = 0;
    int n = fscanf(f, "%lf %lf", &quota, &period);
    fclose(f);
    if (n != 2 || quota <= 0 || period <= 0) return 0;
    double cores = (quota + period - 1) / period;
    return cores < 1 ? 1 : cores > 4096 ? 4096 : (int)cores;
}

/* Cores this process may run on: its affinity mask, then the container's quota. */
static int available_cores(void)
{
    cpu_set_t set;
    long n = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
    if (n < 1) n = 1;
    int quota = quota_cores();
    return quota > 0 && quota < n ? quota : (int)n;
}

cn_ctx *cn_ctx_create(int threads)
{
    cn_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return NULL;
    if (pthread_mutex_init(&ctx->lock, NULL) != 0) {
        free(ctx);
        return NULL;
    }
    atomic_init(&ctx->cancelled, false);
    atomic_init(&ctx->allocs_left, -1);
    ctx->threads = threads > 0 ? threads : available_cores();
    ctx->max_pixels = CN_MAX_PIXELS_DEFAULT;
    omp_set_num_threads(ctx->threads);
    return ctx;
}

cn_ctx *cn_ctx_fork(const cn_ctx *parent, bool follows)
{
    cn_ctx *ctx = cn_ctx_create(1);
    if (!ctx) return NULL;
    if (follows) ctx->follows = parent;
    ctx->max_pixels = cn_max_pixels(parent);
    return ctx;
}

void cn_ctx_set_max_pixels(cn_ctx *ctx, int64_t pixels)
{
    if (ctx && pixels > 0) ctx->max_pixels = pixels;
}

int64_t cn_max_pixels(const cn_ctx *ctx)
{
    return ctx ? ctx->max_pixels : CN_MAX_PIXELS_DEFAULT;
}

void cn_ctx_destroy(cn_ctx *ctx)
{
    if (!ctx) return;
    pthread_mutex_destroy(&ctx->lock);
    free(ctx);
}

const char *cn_error(const cn_ctx *ctx)
{
    return ctx ? ctx->error : "";
}

const char *cn_status_name(cn_status status)
{
    switch (status) {
    case CN_OK: return "ok";
    case CN_EINVAL: return "invalid argument";
    case CN_EIO: return "input/output error";
    case CN_EFORMAT: return "malformed file";
    case CN_ENOMEM: return "out of memory";
    case CN_EMISMATCH: return "mismatch";
    case CN_ECANCELLED: return "cancelled";
    case CN_EINTERNAL: return "internal error";
    }
    return "unknown status";
}

void cn_ctx_set_log(cn_ctx *ctx, void (*fn)(void *user, cn_log_level level, const char *line),
                    void *user)
{
    if (!ctx) return;
    ctx->log = fn;
    ctx->log_user = user;
}

void cn_cancel(cn_ctx *ctx)
{
    if (ctx) atomic_store_explicit(&ctx->cancelled, true, memory_order_relaxed);
}

void cn_cancel_reset(cn_ctx *ctx)
{
    if (ctx) atomic_store_explicit(&ctx->cancelled, false, memory_order_relaxed);
}

bool cn_cancel_requested(const cn_ctx *ctx)
{
    return ctx && atomic_load_explicit(&ctx->cancelled, memory_order_relaxed);
}

bool cn_cancelled(const cn_ctx *ctx)
{
    return ctx && ((!ctx->cancel_held && cn_cancel_requested(ctx)) || cn_cancelled(ctx->follows));
}

void cn_cancel_hold(cn_ctx *ctx, bool held)
{
    if (ctx) ctx->cancel_held = held;
}

int cn_threads(const cn_ctx *ctx)
{
    return ctx ? ctx->threads : 1;
}

/* Formatted outside the context first: an argument may be cn_error(ctx) itself. */
cn_status cn_fail(cn_ctx *ctx, cn_status status, const char *fmt, ...)
{
    if (!ctx) return status;
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&ctx->lock);
    memcpy(ctx->error, text, strlen(text) + 1);
    pthread_mutex_unlock(&ctx->lock);
    return status;
}

cn_status cn_fail_prefix(cn_ctx *ctx, cn_status status, const char *fmt, ...)
{
    if (!ctx) return status;
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t used = strlen(text);
    pthread_mutex_lock(&ctx->lock);
    const char *rest = ctx->error[0] ? ctx->error : cn_status_name(status);
    if (used + 2 < sizeof text) {
        memcpy(text + used, ": ", 2);
        used += 2;
    }
    size_t kept = CN_MIN(strlen(rest), sizeof text - 1 - used);
    memcpy(text + used, rest, kept);
    text[used + kept] = 0;
    memcpy(ctx->error, text, used + kept + 1);
    pthread_mutex_unlock(&ctx->lock);
    return status;
}

void cn_log(cn_ctx *ctx, cn_log_level level, const char *fmt, ...)
{
    if (!ctx || !ctx->log) return;
    char line[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    ctx->log(ctx->log_user, level, line);
}

void cn_log_lines(cn_ctx *ctx, cn_log_level level, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        cn_log(ctx, level, "%.*s", (int)n, text);
        text += n + (text[n] != 0);
    }
}

size_t cn_resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    unsigned long long total = 0, resident = 0;
    const int n = fscanf(f, "%llu %llu", &total, &resident);
    fclose(f);
    return n == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Not getrusage's: that begins with what the process had that started this one. */
size_t cn_peak_resident_bytes(void)
{
    char line[256];
    unsigned long long kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1) break;
    fclose(f);
    return (size_t)kilobytes * 1024;
}

/* The number behind `key` in a file of the system's; false when there is none. */
static bool read_number(const char *path, const char *key, unsigned long long *out)
{
    FILE *f = fopen(path, "re");
    char line[256];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found =
            strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", out) == 1;
    if (f) fclose(f);
    return found;
}

size_t cn_available_bytes(void)
{
    unsigned long long kb, limit, used, cached = 0;
    size_t bytes = SIZE_MAX;
    if (read_number("/proc/meminfo", "MemAvailable:", &kb)) bytes = (size_t)kb * 1024;
    if (!read_number("/sys/fs/cgroup/memory.max", "", &limit) ||
        !read_number("/sys/fs/cgroup/memory.current", "", &used))
        return bytes;
    /* files' pages count as used, but are given up when memory is wanted */
    if (read_number("/sys/fs/cgroup/memory.stat", "inactive_file ", &cached)) limit += cached;
    return CN_MIN(bytes, limit > used ? (size_t)(limit - used) : 0);
    return bytes;
}

double cn_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cn_ctx_fail_alloc_after(cn_ctx *ctx, int64_t n)
{
    if (ctx) atomic_store(&ctx->allocs_left, n);
}

bool cn_ctx_alloc_fails(cn_ctx *ctx)
{
    if (!ctx) return false;
    int64_t left = atomic_load(&ctx->allocs_left);
    while (left > 0 && !atomic_compare_exchange_weak(&ctx->allocs_left, &left, left - 1)) {
    }
    return left == 0;
}
