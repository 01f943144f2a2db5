/* SPDX-License-Identifier: Apache-2.0 */
/* routes_webui.c - stable-diffusion-webui's drawing interface: txt2img, img2img, png-info,
 * progress, interrupt, skip, options. */
#include "server/base64.h"
#include "server/picture.h"
#include "server/server_internal.h"
#include "server/webui.h"
#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- options ---------------------------------------------------------------------------------- */

static void get_options(const http_request *r, http_reply *reply)
{
    json_t *model = models_base(r->server->models, NULL);
    http_reply_json(
        reply, 200,
        json_pack("{s:O?, s:i, s:s}", "sd_model_checkpoint", json_object_get(model, "title"),
                  "CLIP_stop_at_last_layers", (int)r->server->clip_skip, "samples_format", "png"));
    json_decref(model);
}

/* Settings that are there; false with `why`, and nothing is changed. */
static bool change_settings(server *s, const json_t *settings, bool others, char why[WHY_BYTES])
{
    const char *name, *model;
    json_t *value;
    int64_t layers;
    if (!json_whole(settings, "CLIP_stop_at_last_layers", 1, 1000, s->clip_skip, &layers, why) ||
        !json_text(settings, "sd_model_checkpoint", NULL, &model, why))
        return false;
    json_object_foreach((json_t *)(uintptr_t)settings, name, value)
    {
        if (others || !strcmp(name, "CLIP_stop_at_last_layers") ||
            !strcmp(name, "sd_model_checkpoint"))
            continue;
        return snprintf(why, WHY_BYTES, "%.100s: this server doesn't have that option", name),
               false;
    }
    if (model && *model && !models_choose_base(s->models, model)) {
        char list[2048];
        models_base_names(s->models, list, sizeof list);
        return snprintf(why, WHY_BYTES, "sd_model_checkpoint \"%.200s\": there are: %s", model,
                        list),
               false;
    }
    s->clip_skip = (int)layers;
    return true;
}

static void post_options(const http_request *r, http_reply *reply)
{
    char why[WHY_BYTES];
    if (change_settings(r->server, r->json, false, why))
        http_reply_json(reply, 200, json_null());
    else
        http_reply_error(reply, 422, "%s", why);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void append_picture(json_t *list, const job_picture *p)
{
    char *text = base64_encode(p->png, p->bytes, NULL);
    if (text) json_array_append_new(list, json_string(text));
    free(text);
}

/* What is drawn, then the detected maps that were asked for. */
static json_t *pictures_of(const job *j, const json_t *maps)
{
    json_t *list = json_array();
    for (int i = 0; i < j->n_pictures; i++) {
        const size_t unit = (size_t)(i - j->n_drawn);
        if (i < j->n_drawn || json_is_true(json_array_get(maps, unit)))
            append_picture(list, &j->pictures[i]);
    }
    return list;
}

/* A list with the same value for each picture. */
static json_t *repeated(json_t *value, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append(list, value);
    return list;
}

static json_t *member_of(const job *j, const char *name)
{
    json_t *value = json_object_get(j->request, name);
    return value ? json_incref(value) : json_null();
}

/* webui's Processed.js() */
static char *info_of(const job *j)
{
    json_t *texts = json_array(), *prompt = member_of(j, "prompt");
    json_t *negative = json_object_get(j->request, "negative_prompt");
    const json_t *seeds = json_object_get(j->info, "seeds");
    json_t *no = negative ? json_incref(negative) : json_string("");
    for (int i = 0; i < j->n_drawn; i++)
        json_array_append_new(texts, json_string(j->pictures[i].parameters));
    json_t *info = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:O*, s:O*, s:o, s:o, s:o, s:o, s:i, s:o, s:o, "
        "s:o, s:s}",
        "prompt", json_incref(prompt), "all_prompts", repeated(prompt, j->n_drawn),
        "negative_prompt", json_incref(no), "all_negative_prompts", repeated(no, j->n_drawn),
        "seed", member_of(j, "seed"), "all_seeds", seeds ? json_deep_copy(seeds) : json_array(),
        "subseed", 0, "subseed_strength", 0, "width", json_object_get(j->info, "width"), "height",
        json_object_get(j->info, "height"), "sampler_name", member_of(j, "sampling_method"),
        "cfg_scale", member_of(j, "cfg_scale"), "steps", member_of(j, "steps"), "infotexts", texts,
        "index_of_first_image", 0, "clip_skip", member_of(j, "clip_skip"), "styles", json_array(),
        "sd_model_name", member_of(j, "model"), "version", "controlnet.c " CN_VERSION);
    char *text = cn_json_text(info, JSON_COMPACT);
    json_decref(info);
    json_decref(prompt);
    json_decref(no);
    return text;
}

/* The request without its pictures. */
static json_t *echo(const json_t *body)
{
    json_t *copy = cn_json_copy(body);
    json_object_del(copy, "alwayson_scripts");
    json_object_del(copy, "controlnet_units");
    json_object_set_new(copy, "init_images", json_null());
    json_object_set_new(copy, "mask", json_null());
    return copy;
}

static void reply_drawn(const http_request *r, const job *j, const json_t *maps, http_reply *reply)
{
    char *info = info_of(j);
    const json_t *sends = json_object_get(r->json, "send_images");
    json_t *pictures = json_is_false(sends) ? json_array() : pictures_of(j, maps);
    http_reply_json(reply, 200,
                    json_pack("{s:o, s:o, s:s}", "images", pictures, "parameters", echo(r->json),
                              "info", info ? info : "{}"));
    free(info);
}

/* An interrupted drawing answers with what was done before. */
static void draw(const http_request *r, http_reply *reply, bool from_picture)
{
    char why[WHY_BYTES];
    json_t *maps = NULL;
    json_t *request = webui_draw_request(r->json, from_picture, r->server->clip_skip, &maps, why);
    const bool stay =
        json_is_false(json_object_get(r->json, "override_settings_restore_afterwards"));
    if (request && stay &&
        !change_settings(r->server, json_object_get(r->json, "override_settings"), true, why)) {
        json_decref(request);
        json_decref(maps);
        request = NULL;
    }
    if (!request) {
        http_reply_error(reply, 422, "%s", why);
        return;
    }
    job *j = server_add_job(r, request, reply);
    if (j && server_await_job(r, j) && j->state == JOB_CANCELLED) {
        reply_drawn(r, j, maps, reply);
        jobs_release(r->server->jobs, j);
    } else if (j && server_wait_job(r, j, reply)) {
        reply_drawn(r, j, maps, reply);
        jobs_release(r->server->jobs, j);
    }
    json_decref(maps);
}

static void txt2img(const http_request *r, http_reply *reply)
{
    draw(r, reply, false);
}

static void img2img(const http_request *r, http_reply *reply)
{
    draw(r, reply, true);
}

/* --- a running job ---------------------------------------------------------------------------- */

static void get_progress(const http_request *r, http_reply *reply)
{
    jobs *q = r->server->jobs;
    job *j = jobs_running(q);
    const jobs_totals totals = jobs_count(q);
    jobs_lock(q);
    const bool samples = j && j->total > 0;
    double part = samples ? (double)j->done / j->total : 0;
    if (samples && strcmp(j->stage, "decoding") == 0) part = 1;
    char *shown =
        j && j->preview.png ? base64_encode(j->preview.png, j->preview.bytes, NULL) : NULL;
    json_t *value = json_pack(
        "{s:f, s:f, s:{s:b, s:b, s:s, s:i, s:i, s:s, s:i, s:i}, s:o, s:n}", "progress", part,
        "eta_relative", j && j->eta_s > 0 ? j->eta_s : 0.0, "state", "skipped",
        j ? j->skip_asked : 0, "interrupted", j ? j->cancel_asked : 0, "job", j ? j->id : "",
        "job_count", totals.waiting + totals.running, "job_no", 0, "job_timestamp", "0",
        "sampling_step", samples ? j->done : 0, "sampling_steps", samples ? j->total : 0,
        "current_image", shown ? json_string(shown) : json_null(), "textinfo");
    jobs_unlock(q);
    free(shown);
    jobs_release(q, j);
    http_reply_json(reply, 200, value);
}

static void interrupt(const http_request *r, http_reply *reply)
{
    job *j = jobs_running(r->server->jobs);
    if (j) jobs_cancel(r->server->jobs, j);
    jobs_release(r->server->jobs, j);
    http_reply_json(reply, 200, json_object());
}

static void skip(const http_request *r, http_reply *reply)
{
    jobs_skip(r->server->jobs);
    http_reply_json(reply, 200, json_object());
}

/* --- text in pictures ------------------------------------------------------------------------- */

static void png_info(const http_request *r, http_reply *reply)
{
    const char *image = member_text(r->json, "image");
    size_t n = 0;
    char *bytes = image ? picture_bytes(image, &n) : NULL, *text = NULL, *request = NULL;
    cn_ctx *ctx = bytes ? cn_ctx_create(1) : NULL;
    if (!ctx) {
        http_reply_error(reply, 422, "image: a PNG in base64 is expected");
    } else if (cn_png_text_memory(ctx, bytes, n, "parameters", &text) != CN_OK ||
               cn_png_text_memory(ctx, bytes, n, "controlnet.c request", &request) != CN_OK) {
        http_reply_error(reply, 422, "image: %s", cn_error(ctx));
    } else {
        json_t *items = json_object();
        if (text) json_object_set_new(items, "parameters", json_string(text));
        json_t *asked = request ? cn_json_parse_string(request, 0) : NULL;
        json_t *info = json_string(text ? text : ""); /* NULL: no UTF-8 */
        json_t *value =
            json_pack("{s:o, s:o, s:o}", "info", info ? info : json_string(""), "items", items,
                      "parameters", webui_parse_parameters(text && info ? text : ""));
        if (asked) json_object_set_new(value, "request", asked);
        http_reply_json(reply, 200, value);
    }
    cn_free(text);
    cn_free(request);
    cn_ctx_destroy(ctx);
    free(bytes);
}

const http_route routes_webui[] = {
    {"POST", "/sdapi/v1/txt2img", txt2img, ROUTE_JSON | ROUTE_LONG, "Draws from a prompt",
     "WebuiTxt2Img", "WebuiPictures"},
    {"POST", "/sdapi/v1/img2img", img2img, ROUTE_JSON | ROUTE_LONG,
     "Draws over a picture, or the part of it that a mask shows", "WebuiImg2Img", "WebuiPictures"},
    {"POST", "/sdapi/v1/png-info", png_info, ROUTE_JSON, "The parameters that a PNG was drawn with",
     "WebuiPngInfo", NULL},
    {"GET", "/sdapi/v1/progress", get_progress, ROUTE_QUIET, "How far the running job is", NULL,
     NULL},
    {"POST", "/sdapi/v1/interrupt", interrupt, 0, "Stops the running job", NULL, NULL},
    {"POST", "/sdapi/v1/skip", skip, 0, "Stops its batch, and goes on with the next", NULL, NULL},
    {"GET", "/sdapi/v1/options", get_options, 0, "Settings", NULL, NULL},
    {"POST", "/sdapi/v1/options", post_options, ROUTE_JSON, "Changes them", "WebuiOptions", "null"},
    {0}};
