/* SPDX-License-Identifier: Apache-2.0 */
/* base.h - what every other file stands on: status and context, memory, strings, random numbers.
 *
 * Invariants: nothing here prints, exits or keeps mutable globals. A function that can fail returns
 * cn_status and has already put one message into the context; outputs are written only on success.
 */
#ifndef CN_BASE_H
#define CN_BASE_H

#include "controlnet.h"

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CN_PRINTF(a, b) __attribute__((format(printf, a, b)))
#define CN_CHECKED      __attribute__((warn_unused_result))
#define CN_COUNT(a)     (sizeof(a) / sizeof(a)[0])
#define CN_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define CN_MAX(a, b)    ((a) > (b) ? (a) : (b))

/* Where nothing is owned: hand the first failure up. */
#define CN_TRY(expr)                              \
    do {                                          \
        cn_status cn_try_s_ = (expr);             \
        if (cn_try_s_ != CN_OK) return cn_try_s_; \
    } while (0)

/* --- context.c -------------------------------------------------------------------------------- */

/* Records the message (printf form) and returns `status`, so that a caller can `return
 * cn_fail(...)`. Say what was wrong, where, and what would be right. The first message of a failure
 * is kept: a caller further up that only passes the status on doesn't overwrite it. */
cn_status cn_fail(cn_ctx *ctx, cn_status status, const char *fmt, ...) CN_PRINTF(3, 4);
/* Puts "text: " before the message that a failed callee left (adds the file's name, say). */
cn_status cn_fail_prefix(cn_ctx *ctx, cn_status status, const char *fmt, ...) CN_PRINTF(3, 4);
void cn_log(cn_ctx *ctx, cn_log_level level, const char *fmt, ...) CN_PRINTF(3, 4);
/* Each line of a text by itself. */
void cn_log_lines(cn_ctx *ctx, cn_log_level level, const char *text);
/* True once cn_cancel was called (Ctrl-C); loops look at it between steps. */
bool cn_cancelled(const cn_ctx *ctx);
/* While held, cn_cancelled doesn't see a cancel: for what several processes must finish together.
 */
void cn_cancel_hold(cn_ctx *ctx, bool held);
/* Whether cn_cancel was called, held or not: for telling the other processes. */
bool cn_cancel_requested(const cn_ctx *ctx);
/* A context of one thread for part of parent's work, so that messages stay apart: no log, the same
 * limits. follows: cn_cancelled of parent counts in it too; parent must outlive it then. NULL
 * without memory. */
cn_ctx *cn_ctx_fork(const cn_ctx *parent, bool follows);
/* The most pixels of a picture that is read or made. */
int64_t cn_max_pixels(const cn_ctx *ctx);
/* Number of worker threads to use, >= 1. */
int cn_threads(const cn_ctx *ctx);
/* Seconds from a steady clock. */
double cn_now_s(void);
/* Memory of this process that is resident now, and the most that ever was; 0 where the system
 * doesn't say. */
size_t cn_resident_bytes(void);
size_t cn_peak_resident_bytes(void);
/* Memory that can still be taken, by what the system has and by the limit of the process's control
 * group; SIZE_MAX where neither says. */
size_t cn_available_bytes(void);
/* For tests: the next n allocations through ctx succeed and every one after them fails; n < 0 (as
 * created) means none does. */
void cn_ctx_fail_alloc_after(cn_ctx *ctx, int64_t n);
/* Whether the allocation about to be made is to fail; counts it. */
bool cn_ctx_alloc_fails(cn_ctx *ctx);

/* --- alloc.c ---------------------------------------------------------------------------------- */

/* Memory for n bytes, aligned to 64; NULL with CN_ENOMEM's message in ctx when there is none. */
void *cn_alloc(cn_ctx *ctx, size_t n);
/* Address space whose pages come when they are first touched, zeroed: for large buffers that are
 * planned before it is known whether they will be used. drop gives the pages back and keeps the
 * addresses. */
void *cn_reserve(cn_ctx *ctx, size_t n);
void cn_reserve_drop(void *p, size_t n);
void cn_reserve_free(void *p, size_t n);
void *cn_alloc0(cn_ctx *ctx, size_t n);
/* n * size, NULL on overflow too. */
void *cn_alloc_array(cn_ctx *ctx, size_t n, size_t size);
/* Grows p (from cn_alloc*, `old_n` bytes of it kept) to n bytes; p stays valid when NULL
 * returns. */
void *cn_regrow(cn_ctx *ctx, void *p, size_t old_n, size_t n);
void cn_free(void *p);
char *cn_strdup(cn_ctx *ctx, const char *s);
/* a * b, or false when it doesn't fit. */
bool cn_mul_size(size_t a, size_t b, size_t *out);

/* --- str.c: growing byte string --------------------------------------------------------------- */

typedef struct cn_str {
    char *data; /* always 0-terminated once anything was added */
    size_t len, cap;
    bool failed; /* sticky: out of memory */
} cn_str;

void cn_str_add(cn_str *s, const char *bytes, size_t n);
void cn_str_adds(cn_str *s, const char *text);
void cn_str_addf(cn_str *s, const char *fmt, ...) CN_PRINTF(2, 3);
void cn_str_free(cn_str *s);
/* The place of an option's word in a list that ends with NULL; a missing word (NULL) is the first.
 * CN_EINVAL with the words there are for another one; option: its name, for the message. */
cn_status cn_word_find(cn_ctx *ctx, const char *option, const char *word, const char *const *words,
                       int *out) CN_CHECKED;
/* snprintf that reports truncation as CN_EINVAL ("path too long"). */
cn_status cn_format(cn_ctx *ctx, char *out, size_t cap, const char *fmt, ...)
    CN_PRINTF(4, 5) CN_CHECKED;

/* --- file.c ----------------------------------------------------------------------------------- */

/* Opens a regular file for reading; *bytes (may be NULL) its size. CN_EIO names anything else: a
 * folder, and pipes and devices, which data may name and which would be waited for without end. */
cn_status cn_file_open(cn_ctx *ctx, const char *path, int *fd, size_t *bytes) CN_CHECKED;
/* The same as a stream. */
cn_status cn_file_open_stream(cn_ctx *ctx, const char *path, FILE **out) CN_CHECKED;
/* A stream that writes at a file's end, which is made where there is none; anew: of an empty
 * file. */
cn_status cn_file_append(cn_ctx *ctx, const char *path, bool anew, FILE **out) CN_CHECKED;
/* Reads a whole file of at most max_bytes; *data is 0-terminated (not counted), free with
 * cn_free. */
cn_status cn_file_read(cn_ctx *ctx, const char *path, size_t max_bytes, char **data,
                       size_t *n) CN_CHECKED;
/* Its first max_bytes, or all of it where it is shorter. */
cn_status cn_file_read_head(cn_ctx *ctx, const char *path, size_t max_bytes, char **data,
                            size_t *n) CN_CHECKED;
/* Atomic: temporary file beside it, write, fsync, rename, fsync of the folder. On failure the
 * temporary file is removed and `path` is as it was. */
cn_status cn_file_write(cn_ctx *ctx, const char *path, const void *data, size_t n) CN_CHECKED;
bool cn_file_exists(const char *path);
bool cn_dir_exists(const char *path);
/* A folder's entries, one by one, but . and ..; next is CN_EIO where reading fails in the middle
 * and NULL in *entry at the end. close takes NULL. */
typedef struct cn_dir cn_dir;
struct dirent;
cn_status cn_dir_open(cn_ctx *ctx, const char *path, cn_dir **out) CN_CHECKED;
cn_status cn_dir_next(cn_dir *d, const struct dirent **entry) CN_CHECKED;
void cn_dir_close(cn_dir *d);
/* rm -r; one that isn't there is fine. */
cn_status cn_dir_remove(cn_ctx *ctx, const char *dir) CN_CHECKED;
/* mkdir -p. */
cn_status cn_dir_make(cn_ctx *ctx, const char *path) CN_CHECKED;

/* Atomic writing in pieces: open gives a FILE on a temporary file beside the target; commit fsyncs
 * and renames; abort removes. A target that is there and no regular file is written into instead
 * (tmp ""), and nothing of what was written is taken back. Only in order: a pipe can't seek. */
typedef struct cn_file_writer {
    FILE *f;
    int fd; /* which f writes to */
    char path[CN_PATH_BYTES],
        target[CN_PATH_BYTES]; /* as it was given, and behind its symbolic links */
    char tmp[CN_PATH_BYTES + 32];
} cn_file_writer;
cn_status cn_writer_open(cn_ctx *ctx, const char *path, cn_file_writer *w) CN_CHECKED;
cn_status cn_writer_commit(cn_ctx *ctx, cn_file_writer *w) CN_CHECKED;
void cn_writer_abort(cn_file_writer *w);

/* --- rng.c ------------------------------------------------------------------------------------ */

/* torch's CPU generator: mt19937 seeded by the low 32 bits of the seed, as
 * torch.Generator().manual_seed. */
typedef struct cn_rng {
    uint32_t state[624];
    int index;
    bool has_gauss; /* normal draws below 16 elements come in pairs (Box-Muller); the second waits
                       here */
    double gauss;
} cn_rng;

void cn_rng_seed(cn_rng *r, uint64_t seed);
uint32_t cn_rng_u32(cn_rng *r);
uint64_t cn_rng_u64(cn_rng *r);
/* [0,1) with 24 bits, as torch.rand in float32. */
float cn_rng_uniform(cn_rng *r);
/* [0, n) as torch.randint(0, n) draws it (n < 2^32). */
int64_t cn_rng_below(cn_rng *r, int64_t n);
/* n standard normal draws, the same bytes' worth as torch.randn(n, generator=g) on the CPU:
 * below 16 elements one by one in double, from 16 on in blocks of 16. */
void cn_rng_normal(cn_rng *r, float *out, int64_t n);

/* Seeded weights (reference/seedweights.py): out[i] = offset + scale * u_i, u in [-1,1) from
 * `key`. */
void cn_seed_tensor(const char *key, float offset, float scale, float *out, int64_t n);
uint64_t cn_hash64(const void *bytes, size_t n); /* FNV-1a */

#endif
