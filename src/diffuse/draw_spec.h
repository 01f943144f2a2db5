/* SPDX-License-Identifier: Apache-2.0 */
/* draw_spec.h - what is drawn with: networks, sizes, and each ControlNet's part in a run. Shared by
 * the loop (sampling.h) and the ControlNets it runs (control.h).
 */
#ifndef CN_DIFFUSE_DRAW_SPEC_H
#define CN_DIFFUSE_DRAW_SPEC_H

#include "model/nets/nets.h"

enum { CN_MAX_CONTROLS = 8, CN_MAX_CONTROL_OUTPUTS = CN_MAX_RESIDUALS + 1 };

typedef struct cn_draw_control {
    const cn_control_kind *kind;
    const void *config; /* the kind's */
    cn_params *params;
    bool cond_only; /* under guidance the unconditional half is drawn without it (guess mode) */
    cn_condition_spec condition; /* h and w aren't used */
} cn_draw_control;

typedef struct cn_draw_spec {
    const cn_unet_config *unet;
    cn_params *unet_params;
    cn_draw_control controls[CN_MAX_CONTROLS];
    int n_controls;
    int64_t batch;
    int64_t latent_h, latent_w;
    int64_t context_length;   /* tokens */
    bool guidance;            /* both halves; else the conditional one alone */
    bool sequential_guidance; /* one behind the other instead of as one batch: less memory */
    /* A picture that the drawing takes its looks from (cn_reference), whose latents a run's args
     * give; guidance's halves are then one batch. */
    bool reference;
    float reference_weight, style_fidelity;
} cn_draw_spec;

/* The samples that go through the UNet for it, before the others: none for an unconditional half
 * that doesn't see it. */
static inline int64_t cn_draw_references(const cn_draw_spec *s)
{
    if (!s->reference) return 0;
    return s->guidance && s->style_fidelity < 1 ? 2 * s->batch : s->batch;
}

/* One control network's part in a run. It acts on step i of n unless i/n < start or (i+1)/n > end;
 * a step on which it doesn't act, it isn't run. */
typedef struct cn_draw_hint {
    /* [H,W,3] in [0,1], the same for the whole batch; H and W of the picture. Of an image prompt
     * what the image encoder makes of it, [images,rows,features]. */
    const float *image;
    const float *without; /* of an image prompt, the same for guidance's unconditional half */
    const float *further[CN_MAX_CONDITIONS - 1]; /* a Union's, behind the first */
    double strength, start, end;
    /* Factors on the strength, one for each place where it acts (of a ControlNet the residuals, the
     * middle's last: 13 for SD 1.5); NULL: all 1. */
    const float *weights;
    const float *mask; /* [H,W]: where in the picture it acts, 0 to 1; NULL: everywhere */
} cn_draw_hint;

#endif
