/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_listed.c - conditions and prompts named one by one, for drawings that a user wants to
 * see: there is no picture that they are of, so a pair's target is its condition.
 *
 * Source of the rule which belongs to which: diffusers' train_controlnet.py, --validation_image and
 * --validation_prompt. Index: the number itself.
 */
#include "data/dataset_internal.h"

#include <string.h>

/* The lists are the caller's and outlive the data set. */
typedef struct given {
    const char *const *images, *const *prompts;
    int64_t n_images, n_prompts;
} given;

static int64_t count(const char *const *words)
{
    int64_t n = 0;
    while (words && words[n]) n++;
    return n;
}

static cn_status check_sizes(cn_ctx *ctx, const cn_dataset *d)
{
    int64_t width, height;
    for (int64_t i = 0; i < d->n; i++) CN_TRY(cn_dataset_size(ctx, d, i, &width, &height));
    return CN_OK;
}

static cn_status fill(cn_ctx *ctx, cn_dataset *d, given *g)
{
    if (!g->n_images || !g->n_prompts)
        return cn_fail(ctx, CN_EINVAL,
                       "--validation-image and --validation-prompt go together; %s is missing",
                       g->n_images ? "the prompt" : "the image");
    if (g->n_images != g->n_prompts && g->n_images != 1 && g->n_prompts != 1)
        return cn_fail(ctx, CN_EINVAL,
                       "%lld times --validation-image and %lld times --validation-prompt: as many "
                       "of each, or one of either",
                       (long long)g->n_images, (long long)g->n_prompts);
    d->words = 1;
    const uint64_t n = (uint64_t)CN_MAX(g->n_images, g->n_prompts);
    for (uint64_t i = 0; i < n; i++) CN_TRY(cn_dataset_add(ctx, d, &i));
    return check_sizes(ctx, d);
}

static cn_status get_listed(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                            cn_dataset_item *out)
{
    const given *g = d->own;
    const char *image = g->images[g->n_images > 1 ? *words : 0];
    const char *text = prompt ? g->prompts[g->n_prompts > 1 ? *words : 0] : "";
    out->where = cn_strdup(ctx, "--validation-image");
    out->condition.path = cn_strdup(ctx, image);
    out->target.path = cn_strdup(ctx, image);
    out->prompt = cn_strdup(ctx, text);
    return out->where && out->condition.path && out->target.path && out->prompt ? CN_OK : CN_ENOMEM;
}

static void close_listed(cn_dataset *d)
{
    cn_free(d->own);
}

/* Never found by its content, so it isn't one of dataset_layouts.h. */
static const cn_dataset_layout listed = {.name = "given", .get = get_listed, .close = close_listed};

cn_status cn_dataset_open_listed(cn_ctx *ctx, const char *const *images, const char *const *prompts,
                                 cn_dataset **out)
{
    cn_dataset *d = cn_alloc0(ctx, sizeof *d);
    given *g = cn_alloc0(ctx, sizeof *g);
    cn_status s = d && g ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        *g = (given){images, prompts, count(images), count(prompts)};
        d->layout = &listed;
        d->own = g;
        s = fill(ctx, d, g);
    } else {
        cn_free(g);
    }
    if (s != CN_OK) {
        cn_dataset_close(d);
        return s;
    }
    *out = d;
    return CN_OK;
}
