/* SPDX-License-Identifier: Apache-2.0 */
/* image_prompts.c - pictures that a drawing is to resemble: how an IP-Adapter's images become what
 * CLIP's image encoder makes of them, in a stage of its own behind the text's.
 *
 * As in diffusers (encode_image): for a plain IP-Adapter the encoder's projected output, and zeros
 * for guidance's unconditional half; for the others its last layer but one, and for the
 * unconditional half that of a picture whose normalised values are 0. Pictures are prepared as by
 * transformers' CLIPImageProcessor.
 */
#include "image/resize.h"
#include "pipeline/pipeline_internal.h"

#include <string.h>

/* --- checks ----------------------------------------------------------------------------------- */

cn_status cn_pipeline_check_ip(cn_pipeline *p, const cn_control_file *c)
{
    if (!p->vision && cn_file_in(p->base->path, "image_encoder/config.json"))
        CN_TRY(cn_vision_file_open(p->ctx, p->base->path, &p->vision));
    if (!p->vision)
        return cn_fail(p->ctx, CN_EMISMATCH,
                       "an IP-Adapter, which sees its image by a CLIP image encoder: give one with "
                       "--image-encoder");
    const cn_clip_config *e = &p->vision->config.clip;
    const bool plain = c->ip.form == CN_IP_PLAIN;
    const int64_t gives = plain ? e->projection : e->hidden;
    if (c->ip.features == gives) return CN_OK;
    return cn_fail(p->ctx, CN_EMISMATCH,
                   "the IP-Adapter takes %s of width %lld, the image encoder %s gives %lld: it was "
                   "trained with another one",
                   plain ? "projected features" : "features", (long long)c->ip.features,
                   p->vision->path, (long long)gives);
}

cn_status cn_job_count_images(cn_job *j, int k)
{
    const cn_control_options *c = &j->o->controls[k];
    const cn_control_file *file = j->p->controls[k];
    cn_condition_spec *s = &j->conditions[k];
    if (strcmp(j->kinds[k], "none") != 0 || c->type)
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "%s: an IP-Adapter takes its image as it is, without a preprocessor or type",
                       file->path);
    if (c->n_more < 0 || c->n_more >= CN_MAX_CONDITIONS)
        return cn_fail(j->p->ctx, CN_EINVAL, "%s: %d images; at most %d are possible", file->path,
                       c->n_more + 1, (int)CN_MAX_CONDITIONS);
    for (int i = 0; i < c->n_more; i++)
        if (!c->more[i].image)
            return cn_fail(j->p->ctx, CN_EINVAL, "%s: image prompt %d has no image", file->path,
                           i + 2);
    *s = (cn_condition_spec){.n = 1, .images = 1 + c->n_more, .rows = 1};
    if (file->ip.form != CN_IP_PLAIN) s->rows = j->p->vision->config.clip.max_positions;
    return CN_OK;
}

/* --- the encoder ------------------------------------------------------------------------------ */

typedef struct encoder {
    cn_graph *graph;
    cn_plan *plan;
    cn_node *image;
    cn_node *of[CN_IP_FORMS]; /* what IP-Adapters of this form take; NULL: there are none */
} encoder;

static void close_encoder(encoder *e)
{
    cn_plan_destroy(e->plan);
    cn_graph_destroy(e->graph);
}

/* Of what the job's image prompts take; *none: there are none. */
static cn_status open_encoder(const cn_job *j, cn_params *params, encoder *e, bool *none)
{
    const cn_pipeline *p = j->p;
    cn_node *outputs[2], *projected = NULL;
    bool plain = false, other = false;
    int n = 0;
    for (int k = 0; k < p->n_controls; k++) {
        if (!cn_pipeline_takes_prompt(p, k)) continue;
        plain = plain || p->controls[k]->ip.form == CN_IP_PLAIN;
        other = other || p->controls[k]->ip.form != CN_IP_PLAIN;
    }
    *none = !plain && !other;
    if (*none) return CN_OK;
    const int64_t S = p->vision->config.image_size;
    CN_TRY(cn_graph_create(p->ctx, &e->graph));
    cn_graph_use(e->graph, params);
    e->image = cn_input4(e->graph, "image", 1, S, S, 3);
    cn_node *before =
        cn_vision_build(e->graph, &p->vision->config, e->image, plain ? &projected : NULL);
    CN_TRY(cn_graph_status(e->graph));
    if (plain) outputs[n++] = e->of[CN_IP_PLAIN] = projected;
    if (other) outputs[n++] = e->of[CN_IP_FULL] = e->of[CN_IP_PLUS] = before;
    return cn_plan_create(p->ctx, e->graph, p->backend, outputs, n, false, &e->plan);
}

/* The middle of the picture whose shorter side has become the encoder's, normalised. */
static cn_status prepare_image(cn_ctx *ctx, const cn_vision_config *c, const cn_image *in,
                               float *out)
{
    const int64_t S = c->image_size, least = CN_MIN(in->width, in->height);
    const int64_t width = S * in->width / least, height = S * in->height / least;
    cn_image *sized = NULL;
    CN_TRY(cn_image_resize_bicubic(ctx, in, width, height, &sized));
    const int64_t left = (width - S) / 2, top = (height - S) / 2;
    for (int64_t y = 0; y < S; y++)
        for (int64_t x = 0; x < 3 * S; x++) {
            const uint8_t v = sized->rgb[3 * ((top + y) * width + left) + x];
            out[3 * y * S + x] = ((float)v / 255.0f - c->mean[x % 3]) / c->deviation[x % 3];
        }
    cn_image_destroy(sized);
    return CN_OK;
}

static cn_status encode(const cn_job *j, encoder *e, cn_ip_form form, const float *pixels,
                        float *to)
{
    CN_TRY(cn_plan_set(e->plan, e->image, pixels));
    CN_TRY(cn_plan_run(e->plan));
    CN_TRY(cn_plan_expect_finite(e->plan, e->of[form]));
    if (cn_plan_get(e->plan, e->of[form], to)) return CN_OK;
    return cn_fail(j->p->ctx, CN_EINTERNAL, "the image encoder's result was not kept");
}

/* The images of control k. pixels: room for one of them. */
static cn_status encode_prompt(cn_job *j, encoder *e, int k, float *pixels)
{
    const cn_control_options *c = &j->o->controls[k];
    const cn_vision_config *config = &j->p->vision->config;
    const cn_ip_form form = j->p->controls[k]->ip.form;
    const int64_t images = j->conditions[k].images;
    const size_t one = (size_t)cn_node_elements(e->of[form]), all = one * (size_t)images;
    cn_image_prompt *to = &j->image_prompts[k];
    if (!(to->image = cn_alloc_array(j->p->ctx, all, sizeof(float)))) return CN_ENOMEM;
    for (int64_t i = 0; i < images; i++) {
        const cn_image *image = i ? c->more[i - 1].image : c->image;
        CN_TRY(prepare_image(j->p->ctx, config, image, pixels));
        CN_TRY(encode(j, e, form, pixels, to->image + (size_t)i * one));
    }
    if (!j->guidance) return CN_OK;
    if (!(to->without = cn_alloc0(j->p->ctx, all * sizeof(float)))) return CN_ENOMEM;
    if (form == CN_IP_PLAIN) return CN_OK;
    memset(pixels, 0, (size_t)cn_node_elements(e->image) * sizeof *pixels);
    CN_TRY(encode(j, e, form, pixels, to->without));
    for (int64_t i = 1; i < images; i++)
        memcpy(to->without + (size_t)i * one, to->without, one * sizeof(float));
    return CN_OK;
}

static cn_status encode_all(cn_job *j, encoder *e)
{
    cn_status s = CN_OK;
    float *pixels = cn_alloc_array(j->p->ctx, (size_t)cn_node_elements(e->image), sizeof *pixels);
    if (!pixels) return CN_ENOMEM;
    for (int k = 0; s == CN_OK && k < j->p->n_controls; k++) {
        if (!cn_pipeline_takes_prompt(j->p, k)) continue;
        cn_job_report(j, "image prompts", k, j->p->n_controls);
        s = encode_prompt(j, e, k, pixels);
    }
    if (s == CN_OK) cn_job_report(j, "image prompts", j->p->n_controls, j->p->n_controls);
    cn_free(pixels);
    return s;
}

cn_status cn_job_encode_images(cn_job *j)
{
    cn_pipeline *p = j->p;
    encoder e = {0};
    bool none = true;
    cn_status s = CN_OK;
    double begun = cn_now_s();
    for (int k = 0; k < p->n_controls; k++) none = none && !cn_pipeline_takes_prompt(p, k);
    if (none) return CN_OK;
    if (!p->vision_params) s = cn_pipeline_network(p, &j->fit, CN_NET_VISION, 0, &p->vision_params);
    if (s == CN_OK) s = open_encoder(j, p->vision_params, &e, &none);
    /* Another form of IP-Adapter may need layers that weren't loaded before. */
    if (s == CN_OK && !cn_params_loaded(p->vision_params))
        s = cn_vision_file_load(p->ctx, p->vision, p->backend, p->vision_params);
    if (s == CN_OK) s = encode_all(j, &e);
    close_encoder(&e);
    if (!j->fit.keep || s != CN_OK) cn_params_unload(&p->vision_params);
    j->encoding_s += cn_now_s() - begun;
    return s;
}

void cn_job_free_images(cn_job *j)
{
    for (int k = 0; k < CN_MAX_CONTROLS; k++) {
        cn_free(j->image_prompts[k].image);
        cn_free(j->image_prompts[k].without);
    }
}

cn_status cn_job_plan_images(const cn_job *j, cn_params *params, bool *none, cn_plan_info *out)
{
    encoder e = {0};
    const cn_status s = open_encoder(j, params, &e, none);
    if (s == CN_OK && !*none) cn_plan_info_get(e.plan, out);
    close_encoder(&e);
    return s;
}
