/* SPDX-License-Identifier: Apache-2.0 */
/* prepare_lookalikes.c - which entries look like an earlier one, found before anything is written:
 * a part of a run can't know what the others hold.
 *
 *   OUT/hashes.partial   a perceptual hash of 8 bytes for each entry so far, in order; 0: it has
 *                        none, for it can't be read or is left out anyway
 *   OUT/lookalikes.bin   a byte for each entry, 1: an earlier one is near; once all are hashed
 *
 * One process hashes, others on the same folder wait for it. Killed, it goes on behind the last
 * hash.
 */
#include "pipeline/samples_internal.h"

#include "base/sys.h"
#include "data/lookalikes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256, PAUSE_NS = 200000000 };

typedef struct hashing {
    cn_ctx *ctx;
    const cn_sample_maker *m;
    char partial[CN_PATH_BYTES], path[CN_PATH_BYTES];
    int fd;
    int64_t n;
    uint64_t *hashes;
} hashing;

/* The status of a chunk's first entry that ends the run. */
static cn_status hash_chunk(hashing *h, int64_t first, int64_t n)
{
    cn_status ended = CN_OK;
    char text[1024] = "";
#pragma omp parallel for schedule(dynamic, 1) num_threads(cn_threads(h->ctx))
    for (int64_t i = 0; i < n; i++) {
        cn_ctx *ctx = cn_cancelled(h->ctx) ? NULL : cn_ctx_fork(h->ctx, true);
        cn_status s =
            ctx ? cn_sample_hash(h->m, ctx, first + i, &h->hashes[first + i]) : CN_ECANCELLED;
#pragma omp critical(cn_lookalikes)
        if (s != CN_OK && ended == CN_OK) {
            ended = s;
            snprintf(text, sizeof text, "%s", ctx ? cn_error(ctx) : "");
        }
        cn_ctx_destroy(ctx);
    }
    return ended == CN_OK ? CN_OK : cn_fail(h->ctx, ended, "%s", text);
}

static cn_status write_hashes(hashing *h, int64_t first, int64_t n)
{
    const char *bytes = (const char *)(h->hashes + first);
    const size_t size = (size_t)n * sizeof *h->hashes;
    const ssize_t k = cn_sys_pwrite(h->fd, bytes, size, first * (int64_t)sizeof *h->hashes);
    return k == (ssize_t)size ? CN_OK
                              : cn_fail_io(h->ctx, "write", h->partial, k < 0 ? errno : ENOSPC);
}

/* Behind what an earlier run left. */
static cn_status hash_all(hashing *h)
{
    const cn_prepare_options *o = h->m->o;
    const ssize_t have = cn_sys_pread(h->fd, h->hashes, (size_t)h->n * sizeof *h->hashes, 0);
    int64_t done = have > 0 ? have / (ssize_t)sizeof *h->hashes : 0;
    while (done < h->n) {
        const int64_t n = CN_MIN(CHUNK, h->n - done);
        CN_TRY(hash_chunk(h, done, n));
        CN_TRY(write_hashes(h, done, n));
        done += n;
        if (o->progress) o->progress(o->user, "hashes", done, h->n);
    }
    return CN_OK;
}

static cn_status compare(hashing *h, uint8_t *alike)
{
    int32_t *earlier = cn_alloc_array(h->ctx, (size_t)h->n, sizeof *earlier);
    if (!earlier) return CN_ENOMEM;
    for (int64_t i = 0; i < h->n; i++) alike[i] = h->hashes[i] != 0;
    cn_status s = cn_lookalikes_find(
        h->ctx, h->hashes, alike, h->n,
        strcmp(h->m->o->duplicates, "near") == 0 ? CN_LOOKALIKE_NEAR_BITS : 0, earlier);
    for (int64_t i = 0; s == CN_OK && i < h->n; i++) alike[i] = earlier[i] >= 0;
    cn_free(earlier);
    if (s == CN_OK) s = cn_file_write(h->ctx, h->path, alike, (size_t)h->n);
    if (s == CN_OK) cn_sys_unlink(h->partial);
    return s;
}

static cn_status hash_and_compare(hashing *h, uint8_t *alike)
{
    h->hashes = cn_alloc_array(h->ctx, (size_t)h->n, sizeof *h->hashes);
    if (!h->hashes) return CN_ENOMEM;
    cn_status s = hash_all(h);
    if (s == CN_OK) s = compare(h, alike);
    cn_free(h->hashes);
    return s;
}

static cn_status read_result(hashing *h, uint8_t *alike)
{
    char *data = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(h->ctx, h->path, (size_t)h->n + 1, &data, &n));
    if (n == (size_t)h->n) memcpy(alike, data, n);
    cn_free(data);
    return n == (size_t)h->n ? CN_OK
                             : cn_fail(h->ctx, CN_EFORMAT, "%s: %zu bytes, %lld are expected",
                                       h->path, n, (long long)h->n);
}

/* Whoever has the lock hashes. Where a file system has none, each process does. */
static cn_status run(hashing *h, uint8_t *alike)
{
    while (!cn_file_exists(h->path)) {
        if (cn_cancelled(h->ctx)) return cn_fail(h->ctx, CN_ECANCELLED, "stopped");
        h->fd = cn_sys_open(h->partial, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
        if (h->fd < 0) return cn_fail_io(h->ctx, "write", h->partial, errno);
        const bool taken = cn_sys_lock_file(h->fd) != 0 && (errno == EAGAIN || errno == EACCES);
        const cn_status s = taken || cn_file_exists(h->path) ? CN_OK : hash_and_compare(h, alike);
        close(h->fd);
        CN_TRY(s);
        if (taken) nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return read_result(h, alike);
}

cn_status cn_prepare_lookalikes(cn_ctx *ctx, const cn_sample_maker *m, uint8_t **out)
{
    hashing h = {.ctx = ctx, .m = m, .n = m->sources.n};
    *out = NULL;
    if (!cn_filters_drop_lookalikes(m->o)) return CN_OK;
    CN_TRY(cn_format(ctx, h.partial, sizeof h.partial, "%s/hashes.partial", m->o->output_dir));
    CN_TRY(cn_format(ctx, h.path, sizeof h.path, "%s/lookalikes.bin", m->o->output_dir));
    uint8_t *alike = cn_alloc(ctx, (size_t)h.n);
    const cn_status s = alike ? run(&h, alike) : CN_ENOMEM;
    if (s == CN_OK)
        *out = alike;
    else
        cn_free(alike);
    return s;
}
