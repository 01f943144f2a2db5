/* SPDX-License-Identifier: Apache-2.0 */
/* vae_begin.c - the autoencoder's first weights: nearly a linear map, there and back.
 *
 * Sixteen numbers per 8 x 8 pixels by a linear map alone (the scenes' principal components) give
 * them back at 30 dB. As torch's defaults begin, the network can't say that map: every convolution
 * makes what passes smaller, every residual block adds features of its own that are larger, norms
 * take away how bright a picture is, and the latents' noise is as large as what the encoder says.
 * So it begins with
 *
 * - residual blocks and attention that add nothing yet, their last layers at 0,
 * - convolutions that keep a picture's deviation (LeCun et al., "Efficient BackProp", 1998),
 * - before either half's closing norm two channels of each group that are constant, so that its
 *   mean and deviation depend little on the picture, and what it takes away can be read from them,
 * - latents with little noise.
 */
#include "pretrain/pretrain.h"

#include <math.h>
#include <string.h>

/* Of the latents' noise: a deviation of 0.05. */
static const float LOG_VARIANCE = -6;
/* A group's deviation by its constant channels, several times that of a picture's values. */
static const float CONSTANT_DEVIATION = 2;
/* Torch's default has a third of the variance that keeps a deviation. */
static const float KEEPING = 1.7320508f;

/* What the values that a closing norm reads had added last. */
static bool is_before_closing_norm(const cn_vae_config *c, const char *name)
{
    char last[CN_NAME_MAX];
    snprintf(last, sizeof last, "decoder.up_blocks.%d.resnets.%d.conv2.bias", c->levels - 1,
             c->layers_per_block);
    return !strcmp(name, last) || !strcmp(name, "encoder.mid_block.resnets.1.conv2.bias");
}

static bool ends_branch(const char *name)
{
    return strstr(name, ".conv2.") || strstr(name, ".to_out.");
}

/* Two of each of the groups of n channels, one above 0 and one below. */
static void make_constant(float *bias, int64_t n, int groups)
{
    const int64_t each = n / groups;
    const float size = CONSTANT_DEVIATION * sqrtf((float)each / 2);
    for (int64_t i = 0; i < n; i++) bias[i] = i % each == 0 ? size : i % each == 1 ? -size : 0;
}

static void begin(const cn_vae_config *c, const cn_param *q, float *x)
{
    const char *name = q->diffusers_name;
    const int64_t n = cn_param_elements(q);
    const bool closing = strstr(name, ".conv_out.");
    if (ends_branch(name))
        memset(x, 0, (size_t)n * sizeof *x);
    else if (q->ndim > 1)
        for (int64_t i = 0; i < n; i++) x[i] *= closing ? 2 * KEEPING : KEEPING;
    if (is_before_closing_norm(c, name)) make_constant(x, n, c->norm_groups);
    if (!strcmp(name, "quant_conv.weight"))
        for (int64_t i = n / 2; i < n; i++) x[i] *= 0.1f;
    if (!strcmp(name, "quant_conv.bias"))
        for (int64_t i = n / 2; i < n; i++) x[i] = LOG_VARIANCE;
}

cn_status cn_pretrain_begin_vae(cn_pretrain_run *r)
{
    CN_TRY(cn_params_init(r->ctx, r->be, r->vae, r->o->seed));
    for (int64_t i = 0; i < cn_params_count(r->vae); i++) {
        cn_param *q = cn_params_at(r->vae, i);
        float *x = cn_alloc_array(r->ctx, (size_t)cn_param_elements(q), sizeof *x);
        cn_status s = x ? cn_param_get(r->be, r->ctx, q, x) : CN_ENOMEM;
        if (s == CN_OK) begin(&r->base->vae, q, x);
        if (s == CN_OK) s = cn_param_set(r->be, r->ctx, q, x);
        cn_free(x);
        CN_TRY(s);
    }
    return CN_OK;
}
