/* SPDX-License-Identifier: Apache-2.0 */
/* added.c - see added.h. Source: diffusers' UNet2DConditionModel ("text_time"), and
 * StableDiffusionXLPipeline._get_add_time_ids. */
#include "diffuse/added.h"

#include <math.h>
#include <string.h>

void cn_added_numbers(const cn_picture_sizes *s, float out[CN_ADDED_NUMBERS])
{
    const int64_t list[CN_ADDED_NUMBERS] = {s->original_h, s->original_w, s->crop_top,
                                            s->crop_left,  s->target_h,   s->target_w};
    for (int i = 0; i < CN_ADDED_NUMBERS; i++) out[i] = (float)list[i];
}

void cn_refiner_numbers(const cn_picture_sizes *s, double score, float out[CN_ADDED_NUMBERS])
{
    cn_added_numbers(s, out);
    out[CN_REFINER_NUMBERS - 1] = (float)score;
}

void cn_added_embed(const float *pooled, int64_t n_pooled, const float *numbers, int n, int64_t dim,
                    float *out)
{
    const int64_t half = dim / 2;
    if (n_pooled) memcpy(out, pooled, (size_t)n_pooled * sizeof *out);
    out += n_pooled;
    for (int k = 0; k < n; k++, out += dim)
        for (int64_t i = 0; i < half; i++) {
            const float frequency = expf(-logf(10000.0f) * (float)i / (float)half);
            out[i] = cosf(numbers[k] * frequency);
            out[half + i] = sinf(numbers[k] * frequency);
        }
}
