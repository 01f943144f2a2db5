/* SPDX-License-Identifier: Apache-2.0 */
/* golden_sdxl.h - the networks of a folder that make_sdxl.py wrote, which share their inputs
 * (inputs.safetensors), against their published modules' values. */
#ifndef TEST_GOLDEN_SDXL_H
#define TEST_GOLDEN_SDXL_H

#include "golden_nets.h"

#include "graph/plan.h"

/* The inputs that all networks of the folder share, in a network's graph. */
typedef struct golden_inputs {
    cn_tensors *file;
    cn_unet_inputs in;
    cn_node *condition; /* "cond" */
    int64_t number_dim;
} golden_inputs;

cn_status golden_sdxl_inputs(fixture *f, golden_net *n, const cn_unet_config *c,
                             golden_inputs *s) CN_CHECKED;
/* Gives them their values. */
cn_status golden_sdxl_set(fixture *f, golden_net *n, const golden_inputs *s) CN_CHECKED;
/* The seeded picture `name`, [N,H,W,3]. */
cn_status golden_sdxl_condition(fixture *f, cn_plan *plan, const char *name,
                                const cn_node *x) CN_CHECKED;

cn_status golden_sdxl_text(fixture *f) CN_CHECKED;
cn_status golden_sdxl_unet(fixture *f) CN_CHECKED;
cn_status golden_sdxl_controlnet(fixture *f) CN_CHECKED;
/* golden_control.c: ControlNet Union, T2I-Adapters and ControlNet-LLLite. */
cn_status golden_sdxl_union(fixture *f) CN_CHECKED;
cn_status golden_sdxl_adapters(fixture *f) CN_CHECKED;
cn_status golden_sdxl_lllite(fixture *f) CN_CHECKED;
/* The added embedding's input [N,added_dim], from the folder's pooled text and sizes. */
cn_status golden_sdxl_set_added(fixture *f, cn_plan *plan, const cn_node *added,
                                const cn_tensors *inputs, int64_t number_dim) CN_CHECKED;

#endif
