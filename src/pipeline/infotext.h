/* SPDX-License-Identifier: Apache-2.0 */
/* infotext.h - how a picture was made, in the words that other programs read back. */
#ifndef CN_PIPELINE_INFOTEXT_H
#define CN_PIPELINE_INFOTEXT_H

#include "base/base.h"

typedef struct cn_parameters_text {
    const cn_generate_options *options;
    /* Paths; their last part without the extension is written. vae: NULL where it is the model's.
     */
    const char *model, *vae;
    const char *refiner; /* NULL: none */
    const char *const *controls;
    const char *const *preprocessors; /* of the controls */
    int n_controls;
    int64_t width, height;     /* of the first pass */
    const char *schedule_type; /* of the sampler's sigmas; NULL where it has none */
    double strength;           /* of the initial image, or of the second pass */
    int index;                 /* which picture of the batch */
} cn_parameters_text;

/* The "parameters" of stable-diffusion-webui's PNG files. *out: cn_free it. */
cn_status cn_parameters_write(cn_ctx *ctx, const cn_parameters_text *t, char **out) CN_CHECKED;

#endif
