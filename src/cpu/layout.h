/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - a weight's elements between the published order and the one that the kernels read. */
#ifndef CN_CPU_LAYOUT_H
#define CN_CPU_LAYOUT_H

#include "graph/graph.h"

/* Elements of `from` (any alignment) in the published order to elements of `to` in w's layout, of
 * which all (cn_param_physical) are written. */
cn_status cn_layout_put(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *plain,
                        cn_dtype to, void *physical) CN_CHECKED;
/* And back, to floats. */
cn_status cn_layout_get(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *physical,
                        float *plain) CN_CHECKED;

#endif
