/* SPDX-License-Identifier: Apache-2.0 */
/* golden_nets.h - the networks of a fixture folder against their published modules' values. */
#ifndef TEST_GOLDEN_NETS_H
#define TEST_GOLDEN_NETS_H

#include "fixture.h"

#include "model/nets/nets.h"

#define GOLDEN_F32_TOLERANCE 2e-4
#define GOLDEN_F16_TOLERANCE 1e-3
enum { GOLDEN_MAX_OUTPUTS = 512 };

/* What one network's check holds open. */
typedef struct golden_net {
    const char *name;
    json_t *manifest;
    const json_t *config;
    cn_tensors *file;
    cn_params *params;
    cn_graph *g;
    cn_plan *plan;
    cn_node *outputs[GOLDEN_MAX_OUTPUTS];
    int n;
} golden_net;

/* A network of the folder with an empty graph that uses its parameters. */
cn_status golden_net_open(fixture *f, const char *name, golden_net *n) CN_CHECKED;
void golden_net_close(golden_net *n);
/* Plans the graph for the outputs listed so far, once more where it was planned before. */
cn_status golden_net_plan(fixture *f, golden_net *n) CN_CHECKED;
/* Every tensor of the file called "NETWORK.PATH" is the value after the block PATH: these become
 * outputs; taps: one for each of the file's tensors, NULL for the others. */
void golden_add_taps(fixture *f, golden_net *n, cn_node **taps);
void golden_expect_taps(fixture *f, golden_net *n, cn_node *const *taps);
/* Tensors PREFIXdown.0 ... and PREFIXmid. */
void golden_add_residuals(golden_net *n, const cn_residuals *r);
void golden_expect_residuals(fixture *f, golden_net *n, const cn_residuals *r,
                             const cn_tensors *file, const char *prefix);
/* diffusers' guess mode: logspace(-1, 0, n + 1) over the residuals, the middle one last. */
cn_residuals golden_guess_residuals(cn_graph *g, const cn_residuals *r);

cn_status golden_text_encoder(fixture *f) CN_CHECKED;
cn_status golden_vae(fixture *f) CN_CHECKED;
cn_status golden_controlnet(fixture *f) CN_CHECKED;
cn_status golden_unet(fixture *f) CN_CHECKED;
/* Autoencoder, ControlNet and UNet once more: computing in bfloat16 on weights stored so, or on a
 * device with operands rounded to F16. */
cn_status golden_half(fixture *f) CN_CHECKED;

#endif
