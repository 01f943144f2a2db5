/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - the CPU backend: oneDNN convolutions and matrix products, own OpenMP kernels for the
 * rest. */
#ifndef CN_CPU_H
#define CN_CPU_H

#include "graph/backend.h"

/* Picks kernels for the processor it runs on (x86-64-v2 and up). Owned by the caller:
 * b->destroy. */
cn_status cn_backend_cpu_create(cn_ctx *ctx, cn_backend **out) CN_CHECKED;

#endif
