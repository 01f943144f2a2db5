/* bf16_support.c - whether the processor multiplies bfloat16, and how. */
#include "cpu/kernels/bf16/bf16.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl(2): ARCH_REQ_XCOMP_PERM */

cn_bf16_level cn_bf16_support(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512dq") || !__get_cpuid_count(7, 1, &a, &b, &c, &d) ||
        !(a >> 5 & 1))
        return CN_BF16_NONE;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return CN_BF16_AVX512;
    const bool amx_bf16 = d >> 22 & 1, amx_tile = d >> 24 & 1;
    if (amx_bf16 && amx_tile && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0)
        return CN_BF16_AMX;
    return CN_BF16_AVX512;
}
