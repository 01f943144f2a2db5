/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_features.c - see prompt.h.
 *
 * SDXL's half without a negative prompt is not an empty text's but zeros, as diffusers'
 * force_zeros_for_empty_prompt has it; in webui's style an empty one is none.
 *
 * Both halves go through the UNet as one batch, so the shorter prompt gets chunks of an empty text,
 * as stable-diffusion-webui's "pad prompt/negative prompt" does.
 */
#include "pipeline/prompt_features.h"

#include <string.h>

/* One prompt: its stages' texts and what the text encoders get for each. */
typedef struct side {
    cn_prompt_stage *stages;
    cn_text *texts;
    int n;
    bool zeros; /* its features are 0, whatever the texts */
} side;

struct cn_prompts {
    side sides[CN_MAX_PASSES][CN_TEXT_SIDES];
    cn_prompt_style style;
    int chunks; /* of the longest */
};

static void side_free(side *s)
{
    for (int i = 0; s->texts && i < s->n; i++) cn_text_free(&s->texts[i]);
    cn_free(s->texts);
    cn_prompt_stages_free(s->stages, s->n);
}

static void staged_free(cn_staged_text *t)
{
    cn_free(t->features);
    cn_free(t->pooled);
    cn_free(t->until);
}

void cn_pictured_text_free(cn_pictured_text *t)
{
    for (int pass = 0; pass < CN_MAX_PASSES; pass++)
        for (int i = 0; i < CN_TEXT_SIDES; i++) staged_free(&t->staged[pass][i]);
    cn_free(t->prompt.cut_text);
    cn_free(t->negative.cut_text);
    *t = (cn_pictured_text){0};
}

const cn_staged_text *cn_pictured_text_of(const cn_pictured_text *t, int pass, int half)
{
    const cn_staged_text *own = &t->staged[pass][half];
    return own->n ? own : &t->staged[0][half];
}

cn_status cn_prompt_style_find(cn_ctx *ctx, const char *name, cn_prompt_style *out)
{
    *out = name && !strcmp(name, "webui") ? CN_PROMPT_WEBUI : CN_PROMPT_PLAIN;
    if (!name || !strcmp(name, "plain") || !strcmp(name, "webui")) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "prompt style \"%s\": there is plain and webui", name);
}

static cn_status one_stage(cn_ctx *ctx, const char *text, int steps, side *s)
{
    s->stages = cn_alloc0(ctx, sizeof *s->stages);
    if (!s->stages) return CN_ENOMEM;
    s->n = 1;
    s->stages[0].until = steps;
    s->stages[0].text = cn_strdup(ctx, text);
    return s->stages[0].text ? CN_OK : CN_ENOMEM;
}

/* How often a pass calls the UNet; webui counts a second-order method's calls as steps. */
static int calls_of(const cn_generate_options *o, int pass)
{
    const cn_sampler_kind *kind = cn_sampler_find(o->sampler, NULL);
    int steps = pass && o->hires_steps ? o->hires_steps : o->steps;
    return steps * (kind && kind->order > 1 ? kind->order : 1);
}

static cn_status read_side(cn_ctx *ctx, const cn_prompt_job *job, cn_prompt_style style, int pass,
                           const char *text, const char *second, side *s)
{
    const cn_generate_options *o = job->options;
    if (second && !second[0]) second = NULL; /* as in diffusers */
    if (!text) text = "";
    if (style == CN_PROMPT_WEBUI)
        CN_TRY(cn_prompt_schedule(ctx, text, calls_of(o, pass), pass ? calls_of(o, 0) : 0,
                                  &s->stages, &s->n));
    else
        CN_TRY(one_stage(ctx, text, o->steps, s));
    s->texts = cn_alloc0(ctx, (size_t)s->n * sizeof *s->texts);
    if (!s->texts) return CN_ENOMEM;
    for (int i = 0; i < s->n; i++)
        CN_TRY(cn_text_read(ctx, &job->text, style, s->stages[i].text, second, &s->texts[i]));
    return CN_OK;
}

/* The longest stage's, as the first encoder has it; before padding. */
static cn_status usage_of(cn_ctx *ctx, const side *s, cn_prompt_usage *out)
{
    const cn_prompt *longest = s->texts[0].of[0];
    for (int i = 0; i < s->n; i++) {
        const cn_prompt *p = s->texts[i].of[0];
        cn_prompt_report(ctx, p);
        if (p->n_chunks > longest->n_chunks ||
            (p->n_chunks == longest->n_chunks && p->tokens > longest->tokens))
            longest = p;
    }
    out->tokens = longest->tokens;
    out->cut = longest->cut;
    out->chunks = longest->n_chunks;
    out->stages = s->n;
    if (!longest->cut_text) return CN_OK;
    out->cut_text = cn_strdup(ctx, longest->cut_text);
    return out->cut_text ? CN_OK : CN_ENOMEM;
}

static cn_status zero_side(cn_ctx *ctx, const cn_prompt_job *job, int chunks, cn_staged_text *out)
{
    const int64_t row = cn_text_length(&job->text) * cn_text_width(&job->text);
    const int64_t pooled = cn_text_pooled_width(&job->text);
    out->features = cn_alloc0(ctx, (size_t)(chunks * row) * sizeof(float));
    if (pooled) out->pooled = cn_alloc0(ctx, (size_t)(out->n * pooled) * sizeof(float));
    return out->features && (out->pooled || !pooled) ? CN_OK : CN_ENOMEM;
}

static cn_status encode_side(cn_ctx *ctx, cn_backend *be, const cn_prompt_job *job, const side *s,
                             int chunks, cn_staged_text *out)
{
    out->until = cn_alloc_array(ctx, (size_t)s->n, sizeof *out->until);
    if (!out->until) return CN_ENOMEM;
    for (int i = 0; i < s->n; i++) out->until[i] = s->stages[i].until;
    out->n = s->n;
    if (s->zeros) return zero_side(ctx, job, s->n * chunks, out);
    return cn_text_encode_read(ctx, be, &job->text, s->texts, s->n, chunks, &out->features,
                               &out->pooled);
}

/* Whether a second pass has the very text that the first has all along. */
static bool same_text(const side *first, const side *second)
{
    return first->n == 1 && second->n == 1 &&
           !strcmp(first->stages[0].text, second->stages[0].text);
}

static cn_status read_sides(cn_ctx *ctx, const cn_prompt_job *job, cn_prompts *p)
{
    const cn_generate_options *o = job->options;
    const char *negative = o->negative_prompt;
    const bool webui = p->style == CN_PROMPT_WEBUI;
    const bool none = !negative || (webui && !negative[0]);
    if (webui && (o->prompt_2 || o->negative_prompt_2))
        return cn_fail(ctx, CN_EINVAL,
                       "a prompt for the second text encoder belongs to --prompt-style plain: "
                       "webui gives both encoders one");
    if ((o->prompt_2 || o->negative_prompt_2) && job->text.n < 2)
        return cn_fail(ctx, CN_EINVAL,
                       "a prompt for the second text encoder: this model has one encoder");
    int passes = p->style == CN_PROMPT_WEBUI && o->hires_scale > 1 ? 2 : 1;
    for (int pass = 0; pass < passes; pass++) {
        side *sides = p->sides[pass];
        CN_TRY(read_side(ctx, job, p->style, pass, job->prompt, o->prompt_2, &sides[CN_COND]));
        if (job->guidance)
            CN_TRY(read_side(ctx, job, p->style, pass, negative, o->negative_prompt_2,
                             &sides[CN_UNCOND]));
        sides[CN_UNCOND].zeros = none && job->zeros_for_no_negative;
        for (int i = 0; i < CN_TEXT_SIDES; i++)
            for (int k = 0; k < sides[i].n; k++)
                for (int e = 0; e < job->text.n; e++)
                    p->chunks = CN_MAX(p->chunks, sides[i].texts[k].of[e]->n_chunks);
    }
    return CN_OK;
}

cn_status cn_prompts_read(cn_ctx *ctx, const cn_prompt_job *job, cn_prompts **out)
{
    cn_prompts *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->chunks = 1;
    cn_status s = cn_prompt_style_find(ctx, job->options->prompt_style, &p->style);
    if (s == CN_OK) s = read_sides(ctx, job, p);
    if (s != CN_OK) {
        cn_prompts_destroy(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

void cn_prompts_destroy(cn_prompts *p)
{
    if (!p) return;
    for (int pass = 0; pass < CN_MAX_PASSES; pass++)
        for (int i = 0; i < CN_TEXT_SIDES; i++) side_free(&p->sides[pass][i]);
    cn_free(p);
}

int64_t cn_prompts_length(const cn_prompts *p, const cn_base *b)
{
    return p->chunks * cn_base_context_length(b);
}

/* diffusers leaves out layers for the prompt alone, webui for both. */
static int skip_of(const cn_prompts *p, const cn_prompt_job *job, int which)
{
    return which == CN_COND || p->style == CN_PROMPT_WEBUI ? job->options->clip_skip : 0;
}

cn_status cn_prompts_plan(cn_ctx *ctx, cn_backend *be, cn_prompt_job *job, const cn_prompts *p,
                          cn_plan_info *out)
{
    int most = 1;
    for (int pass = 0; pass < CN_MAX_PASSES; pass++)
        for (int i = 0; i < CN_TEXT_SIDES; i++) most = CN_MAX(most, p->sides[pass][i].n);
    job->text.skip = skip_of(p, job, job->guidance ? CN_UNCOND : CN_COND);
    return cn_text_plan(ctx, be, &job->text, most, out);
}

cn_status cn_prompts_encode(cn_ctx *ctx, cn_backend *be, cn_prompt_job *job, const cn_prompts *p,
                            cn_pictured_text *out)
{
    CN_TRY(usage_of(ctx, &p->sides[0][CN_COND], &out->prompt));
    if (job->guidance) CN_TRY(usage_of(ctx, &p->sides[0][CN_UNCOND], &out->negative));
    out->length = p->chunks * cn_text_length(&job->text);
    for (int pass = 0; pass < CN_MAX_PASSES; pass++)
        for (int i = 0; i < CN_TEXT_SIDES; i++) {
            const side *s = &p->sides[pass][i];
            if (!s->n || (pass && same_text(&p->sides[0][i], s))) continue;
            job->text.skip = skip_of(p, job, i);
            CN_TRY(encode_side(ctx, be, job, s, p->chunks, &out->staged[pass][i]));
        }
    return CN_OK;
}
