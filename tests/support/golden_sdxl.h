/* SPDX-License-Identifier: Apache-2.0 */
/* golden_sdxl.h - the networks of a folder that make_sdxl.py wrote, which share their inputs
 * (inputs.safetensors), against their published modules' values. */
#ifndef TEST_GOLDEN_SDXL_H
#define TEST_GOLDEN_SDXL_H

#include "fixture.h"
#include "graph/plan.h"

cn_status golden_sdxl_text(fixture *f) CN_CHECKED;
cn_status golden_sdxl_unet(fixture *f) CN_CHECKED;
cn_status golden_sdxl_controlnet(fixture *f) CN_CHECKED;
/* The added embedding's input [N,added_dim], from the folder's pooled text and sizes. */
cn_status golden_sdxl_set_added(fixture *f, cn_plan *plan, const cn_node *added,
                                const cn_tensors *inputs, int64_t number_dim) CN_CHECKED;

#endif
