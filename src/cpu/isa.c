/* SPDX-License-Identifier: Apache-2.0 */
/* isa.c - see isa.h. */
#include "cpu/isa.h"

#include "cpu/kernels/bf16/bf16.h"
#include "cpu/onednn.h"

#include <cpuid.h>
#include <libxsmm.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl(2): ARCH_REQ_XCOMP_PERM */

static bool has_v4(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

cn_isa cn_cpu_isa(void)
{
    const cn_dnnl_isa may = cn_dnnl_allows();
    if (may.avx512 && has_v4()) return CN_ISA_V4;
    if (may.avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CN_ISA_V3;
    return CN_ISA_V2;
}

const cn_kernels *cn_cpu_kernels(cn_isa isa)
{
    static const cn_kernels *const all[] = {
        [CN_ISA_V2] = &cn_kernels_v2, [CN_ISA_V3] = &cn_kernels_v3, [CN_ISA_V4] = &cn_kernels_v4};
    return all[isa];
}

void cn_cpu_cap_generated(void)
{
    static const int most[] = {[CN_ISA_V2] = LIBXSMM_X86_SSE4, [CN_ISA_V3] = LIBXSMM_X86_AVX2};
    libxsmm_init();
    const cn_isa isa = cn_cpu_isa();
    if (isa != CN_ISA_V4 && libxsmm_get_target_archid() > most[isa])
        libxsmm_set_target_archid(most[isa]);
}

cn_bf16_level cn_bf16_support(void)
{
    unsigned a, b, c, d;
    const cn_dnnl_isa may = cn_dnnl_allows();
    if (!may.bf16 || !has_v4() || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1))
        return CN_BF16_NONE;
    if (!may.amx || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return CN_BF16_AVX512;
    const bool amx_bf16 = d >> 22 & 1, amx_tile = d >> 24 & 1;
    if (amx_bf16 && amx_tile && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0)
        return CN_BF16_AMX;
    return CN_BF16_AVX512;
}
