/* text.c - prompts to the features that the UNet attends to. */
#include "diffuse/draw.h"

#include <string.h>

static cn_status tokenize(cn_ctx *ctx, const cn_text_spec *s, const char *const *prompts, int n,
                          int32_t *ids)
{
    int64_t L = s->clip->max_positions;
    if (cn_tokenizer_size(s->tokenizer) > s->clip->vocabulary)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the tokenizer has %lld tokens, the text encoder knows %lld: this tokenizer "
                       "belongs to another model",
                       (long long)cn_tokenizer_size(s->tokenizer), (long long)s->clip->vocabulary);
    for (int i = 0; i < n; i++) {
        int64_t whole = 0;
        CN_TRY(cn_tokenizer_encode(ctx, s->tokenizer, prompts[i], ids + i * L, L, &whole));
        if (whole > L)
            cn_log(ctx, CN_LOG_WARN,
                   "the prompt has %lld tokens; the model reads %lld, the last %lld are left out",
                   (long long)whole - 2, (long long)L - 2, (long long)(whole - L));
    }
    return CN_OK;
}

static bool all_loaded(const cn_params *p)
{
    for (int64_t i = 0; i < cn_params_count(p); i++)
        if (!cn_params_at(p, i)->loaded) return false;
    return true;
}

static cn_status encode(cn_ctx *ctx, cn_backend *be, const cn_text_spec *s, cn_graph *g,
                        const int32_t *ids, int n, float *out)
{
    int64_t shape[2] = {n, s->clip->max_positions};
    cn_node *x = cn_input(g, "ids", CN_I32, 2, shape, false);
    cn_graph_use(g, s->params);
    cn_node *y = cn_clip_build(g, s->clip, x, s->skip);
    CN_TRY(cn_graph_status(g));
    cn_plan *plan = NULL;
    CN_TRY(cn_plan_create(ctx, g, be, &y, 1, false, &plan));
    cn_status status = s->load && !all_loaded(s->params) ? s->load(s->user, s->params) : CN_OK;
    if (status == CN_OK) status = cn_plan_set(plan, x, ids);
    if (status == CN_OK) status = cn_plan_run(plan);
    if (status == CN_OK)
        memcpy(out, cn_plan_data(plan, y), (size_t)cn_node_elements(y) * sizeof(float));
    cn_plan_destroy(plan);
    return status;
}

cn_status cn_text_encode(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                         const char *const *prompts, int n, float **out)
{
    const cn_clip_config *c = spec->clip;
    if (spec->skip < 0 || spec->skip >= c->layers)
        return cn_fail(
            ctx, CN_EINVAL,
            "clip skip: %d of the text encoder's %d layers left out; 0 to %d are possible",
            spec->skip, c->layers, c->layers - 1);
    if (n < 1 || c->max_positions < 2)
        return cn_fail(ctx, CN_EINVAL, "%d prompts of up to %lld tokens cannot be encoded", n,
                       (long long)c->max_positions);
    size_t tokens = (size_t)n * (size_t)c->max_positions;
    cn_graph *g = NULL;
    float *features = NULL;
    int32_t *ids = cn_alloc_array(ctx, tokens, sizeof *ids);
    cn_status s = ids ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = tokenize(ctx, spec, prompts, n, ids);
    if (s == CN_OK && !(features = cn_alloc_array(ctx, tokens, (size_t)c->hidden * sizeof(float))))
        s = CN_ENOMEM;
    if (s == CN_OK) s = cn_graph_create(ctx, &g);
    if (s == CN_OK) s = encode(ctx, be, spec, g, ids, n, features);
    cn_graph_destroy(g);
    cn_free(ids);
    if (s != CN_OK) {
        cn_free(features);
        return s;
    }
    *out = features;
    return CN_OK;
}
