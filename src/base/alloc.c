/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.c - memory from the system, aligned to 64 bytes (a cache line, an AVX-512 register).
 *
 * The planned arena of a graph is one such block; nothing here is called while a plan runs.
 */
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN_BYTES = 64, LARGE_BYTES = 1 << 22 };

bool cn_mul_size(size_t a, size_t b, size_t *out)
{
    size_t n;
    if (__builtin_mul_overflow(a, b, &n)) return false;
    *out = n;
    return true;
}

/* Fewer page faults and TLB misses; a refusal is fine. */
static void advise_huge_pages(void *p, size_t n)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t huge = 1 << 21, from = ((uintptr_t)p + huge - 1) & ~(huge - 1);
    const uintptr_t end = ((uintptr_t)p + n) & ~(huge - 1);
    if (from < end) (void)madvise((void *)from, end - from, MADV_HUGEPAGE);
#else
    (void)p, (void)n;
#endif
}

void *cn_alloc(cn_ctx *ctx, size_t n)
{
    void *p = NULL;
    /* PTRDIFF_MAX: past it a size has been computed wrongly, and pointer differences break. */
    if (n <= PTRDIFF_MAX - ALIGN_BYTES && !cn_ctx_alloc_fails(ctx)) {
        size_t rounded = n ? (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES : ALIGN_BYTES;
        p = cn_sys_alloc(ALIGN_BYTES, rounded);
        if (p && n >= LARGE_BYTES) advise_huge_pages(p, rounded);
    }
    if (!p) cn_fail(ctx, CN_ENOMEM, "out of memory: %zu bytes were asked for", n);
    return p;
}

void *cn_reserve(cn_ctx *ctx, size_t n)
{
    void *p = NULL;
    if (n <= PTRDIFF_MAX && !cn_ctx_alloc_fails(ctx)) p = cn_sys_reserve_memory(CN_MAX(n, 1));
    if (!p) {
        cn_fail(ctx, CN_ENOMEM, "out of memory: %zu bytes were asked for", n);
        return NULL;
    }
    advise_huge_pages(p, n);
    return p;
}

void cn_reserve_drop(void *p, size_t n)
{
    if (p) madvise(p, n, MADV_DONTNEED);
}

void cn_reserve_free(void *p, size_t n)
{
    if (p) munmap(p, CN_MAX(n, 1));
}

void *cn_alloc0(cn_ctx *ctx, size_t n)
{
    void *p = cn_alloc(ctx, n);
    if (p) memset(p, 0, n);
    return p;
}

void *cn_alloc_array(cn_ctx *ctx, size_t n, size_t size)
{
    size_t bytes;
    if (!cn_mul_size(n, size, &bytes)) {
        cn_fail(ctx, CN_ENOMEM,
                "out of memory: %zu elements of %zu bytes are more than can be addressed", n, size);
        return NULL;
    }
    return cn_alloc(ctx, bytes);
}

/* Not realloc: that keeps no alignment. */
void *cn_regrow(cn_ctx *ctx, void *p, size_t old_n, size_t n)
{
    void *grown = cn_alloc(ctx, n);
    if (!grown) return NULL;
    if (p) memcpy(grown, p, CN_MIN(old_n, n));
    cn_free(p);
    return grown;
}

void cn_free(void *p)
{
    free(p);
}

char *cn_strdup(cn_ctx *ctx, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = cn_alloc(ctx, n);
    if (copy) memcpy(copy, s, n);
    return copy;
}
