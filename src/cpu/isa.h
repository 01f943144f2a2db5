/* SPDX-License-Identifier: Apache-2.0 */
/* isa.h - which instructions kernels may use: the processor's, less what ONEDNN_MAX_CPU_ISA takes
 * from them.
 *
 * The one place that decides it, for own kernels, libxsmm's code and bfloat16 alike, so that one
 * machine can be tried as another: AVX512_CORE is an Intel machine without bfloat16, AVX2 a
 * desktop's, SSE41 the least there is.
 */
#ifndef CN_CPU_ISA_H
#define CN_CPU_ISA_H

#include "cpu/kernels/kernels.h"

/* x86-64-v2 (SSE4.2), v3 (AVX2 and FMA), v4 (AVX-512 F, BW, DQ, VL); each has those before it. */
typedef enum cn_isa { CN_ISA_V2, CN_ISA_V3, CN_ISA_V4 } cn_isa;

cn_isa cn_cpu_isa(void);
const cn_kernels *cn_cpu_kernels(cn_isa isa);
/* Makes libxsmm generate its code within the same bounds; before its first product. */
void cn_cpu_cap_generated(void);

#endif
