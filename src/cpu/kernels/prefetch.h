/* SPDX-License-Identifier: Apache-2.0 */
/* prefetch.h - memory that is fetched before it is wanted. */
#ifndef CN_CPU_KERNELS_PREFETCH_H
#define CN_CPU_KERNELS_PREFETCH_H

/* A line to the second-level cache. Not __builtin_prefetch(): gcc takes a function that does
 * nothing else for one without effect, and drops its calls. */
static inline void prefetch_line(const void *x)
{
    __asm__ volatile("prefetcht1 %0" : : "m"(*(const char *)x));
}

#endif
