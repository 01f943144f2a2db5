/* SPDX-License-Identifier: Apache-2.0 */
/* golden_nets.h - the networks of a fixture folder against their published modules' values. */
#ifndef TEST_GOLDEN_NETS_H
#define TEST_GOLDEN_NETS_H

#include "fixture.h"

cn_status golden_text_encoder(fixture *f) CN_CHECKED;
cn_status golden_vae(fixture *f) CN_CHECKED;
cn_status golden_controlnet(fixture *f) CN_CHECKED;
cn_status golden_unet(fixture *f) CN_CHECKED;
/* Autoencoder, ControlNet and UNet once more, computing in bfloat16 on weights stored so. */
cn_status golden_bf16(fixture *f) CN_CHECKED;

#endif
