/* SPDX-License-Identifier: Apache-2.0 */
/* routes_openai.c - OpenAI's images interface, as its clients and Open WebUI use it. */
#include "server/base64.h"
#include "server/members.h"
#include "server/multipart.h"
#include "server/openai.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_PARTS = 32 };

const member openai_members[] = {
    {"prompt", MEMBER_TEXT, 0, 0, "prompt", NULL},
    {"model", MEMBER_TEXT, 0, 0, NULL, "of /v1/models; OpenAI's own names stand for the first"},
    {"n", MEMBER_WHOLE, 1, 64, "iterations", "pictures, each of a seed of its own"},
    {"size", MEMBER_TEXT, 0, 0, NULL, "WIDTHxHEIGHT, or auto: the model's own"},
    {"response_format", MEMBER_TEXT, 0, 0, NULL, "b64_json or url"},
    {"quality", MEMBER_TEXT, 0, 0, NULL, "without effect"},
    {"style", MEMBER_TEXT, 0, 0, NULL, "without effect"},
    {"user", MEMBER_TEXT, 0, 0, NULL, "without effect"},
    {"output_format", MEMBER_TEXT, 0, 0, NULL, "png"},
    {"negative_prompt", MEMBER_TEXT, 0, 0, "negative_prompt", "not OpenAI's"},
    {"steps", MEMBER_WHOLE, 1, 1000, "steps", "not OpenAI's"},
    {"cfg_scale", MEMBER_NUMBER, -1000, 1000, "cfg_scale", "not OpenAI's"},
    {"seed", MEMBER_WHOLE, -1, 9007199254740991.0, "seed", "not OpenAI's"},
    {0}};

/* --- requests --------------------------------------------------------------------------------- */

static bool set_size(const json_t *body, json_t *out, char why[WHY_BYTES])
{
    const char *size = member_text(body, "size");
    char *end;
    if (!size || strcmp(size, "auto") == 0) return true;
    const long width = strtol(size, &end, 10);
    const bool apart = *end == 'x' && end != size;
    const long height = apart ? strtol(end + 1, &end, 10) : 0;
    if (!apart || *end || width < 8 || height < 8 || width > 32768 || height > 32768)
        return snprintf(why, WHY_BYTES, "size \"%.40s\": 512x512 or the like is expected", size),
               false;
    json_object_set_new(out, "width", json_integer(width));
    json_object_set_new(out, "height", json_integer(height));
    return true;
}

static bool is_word(const json_t *body, const char *name, const char *a, const char *b,
                    char why[WHY_BYTES])
{
    const char *text = member_text(body, name);
    if (!text || strcmp(text, a) == 0 || (b && strcmp(text, b) == 0)) return true;
    return snprintf(why, WHY_BYTES, "%s \"%.40s\": there is %s%s%s", name, text, a,
                    b ? " and " : "", b ? b : ""),
           false;
}

/* Clients that can't be told another name send one of OpenAI's. */
static bool set_model(const http_request *r, const json_t *body, json_t *out, char why[WHY_BYTES])
{
    const char *name = member_text(body, "model");
    char list[2048];
    if (!name) return true;
    json_t *one = models_base(r->server->models, name);
    json_decref(one);
    if (one) return json_object_set_new(out, "model", json_string(name)) == 0;
    if (!strncmp(name, "dall-e-", 7) || !strncmp(name, "gpt-", 4)) return true;
    models_base_names(r->server->models, list, sizeof list);
    return snprintf(why, WHY_BYTES, "model \"%.200s\": there are: %s", name, list), false;
}

static json_t *read_request(const http_request *r, const json_t *body, char why[WHY_BYTES])
{
    if (!members_check(openai_members, body, true, why)) return NULL;
    if (!member_text(body, "prompt")) return snprintf(why, WHY_BYTES, "prompt is missing"), NULL;
    if (!is_word(body, "response_format", "b64_json", "url", why) ||
        !is_word(body, "output_format", "png", NULL, why))
        return NULL;
    json_t *out = json_pack("{s:s, s:s}", "type", "generate", "prompt_style", "webui");
    members_copy(openai_members, body, out);
    if (set_size(body, out, why) && set_model(r, body, out, why)) return out;
    json_decref(out);
    return NULL;
}

/* --- answers ---------------------------------------------------------------------------------- */

static json_t *one_picture(const http_request *r, const job *j, int i, bool as_url)
{
    char url[512];
    if (as_url) {
        snprintf(url, sizeof url, "%s/v1/jobs/%s/pictures/%d", r->server->address, j->id, i);
        return json_pack("{s:s}", "url", url);
    }
    char *text = base64_encode(j->pictures[i].png, j->pictures[i].bytes, NULL);
    json_t *one = json_pack("{s:s}", "b64_json", text ? text : "");
    free(text);
    return one;
}

static void draw(const http_request *r, const json_t *body, json_t *request, http_reply *reply)
{
    const char *format = member_text(body, "response_format");
    job *j = server_add_job(r, request, reply);
    if (!j || !server_wait_job(r, j, reply)) return;
    json_t *data = json_array();
    for (int i = 0; i < j->n_drawn; i++)
        json_array_append_new(data, one_picture(r, j, i, format && strcmp(format, "url") == 0));
    http_reply_json(reply, 200,
                    json_pack("{s:I, s:o}", "created", (json_int_t)time(NULL), "data", data));
    jobs_release(r->server->jobs, j);
}

static void generations(const http_request *r, http_reply *reply)
{
    char why[WHY_BYTES];
    json_t *request = read_request(r, r->json, why);
    if (request)
        draw(r, r->json, request, reply);
    else
        http_reply_error(reply, 422, "%s", why);
}

/* A part as a member: pictures in base64, numbers as numbers. */
static json_t *value_of(const multipart_part *p)
{
    char *end, text[64];
    if (p->is_file) {
        char *encoded = base64_encode(p->data, p->bytes, NULL);
        json_t *value = json_string(encoded ? encoded : "");
        free(encoded);
        return value;
    }
    snprintf(text, sizeof text, "%.*s", (int)(p->bytes < 63 ? p->bytes : 63), p->data);
    const double v = strtod(text, &end);
    const bool named_number = !strcmp(p->name, "n") || !strcmp(p->name, "seed") ||
                              !strcmp(p->name, "steps") || !strcmp(p->name, "cfg_scale");
    if (named_number && end != text && !*end) return json_real(v);
    return json_stringn(p->data, p->bytes);
}

static json_t *form_of(const http_request *r)
{
    multipart_part parts[MOST_PARTS];
    const int n =
        multipart_parse(http_header(r, "Content-Type"), r->body, r->body_bytes, parts, MOST_PARTS);
    json_t *form = n >= 0 ? json_object() : NULL;
    for (int i = 0; i < n; i++) {
        const bool image = strcmp(parts[i].name, "image[]") == 0;
        json_object_set_new(form, image ? "image" : parts[i].name, value_of(&parts[i]));
    }
    return form;
}

/* What is transparent in OpenAI's mask is drawn, so the alpha that the mask is here counts the
 * other way round. */
static void edits(const http_request *r, http_reply *reply)
{
    char why[WHY_BYTES] = "a body of multipart/form-data is expected";
    json_t *form = form_of(r), *request = form ? read_request(r, form, why) : NULL;
    const char *image = form ? member_text(form, "image") : NULL;
    if (request && !image) {
        snprintf(why, sizeof why, "image is missing");
        json_decref(request);
        request = NULL;
    }
    if (request) {
        json_object_set(request, "init_image", json_object_get(form, "image"));
        if (member_text(form, "mask")) {
            json_object_set(request, "mask", json_object_get(form, "mask"));
            json_object_set_new(request, "inpainting_mask_invert", json_true());
        }
        draw(r, form, request, reply);
    } else {
        http_reply_error(reply, 422, "%s", why);
    }
    json_decref(form);
}

/* --- models ----------------------------------------------------------------------------------- */

static json_t *model_json(const json_t *one)
{
    return json_pack("{s:O, s:s, s:i, s:s}", "id", json_object_get(one, "name"), "object", "model",
                     "created", 0, "owned_by", "controlnet.c");
}

static void get_models(const http_request *r, http_reply *reply)
{
    json_t *all = models_bases(r->server->models), *list = json_array(), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        json_array_append_new(list, model_json(one));
    }
    json_decref(all);
    http_reply_json(reply, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

static void get_model(const http_request *r, http_reply *reply)
{
    json_t *one = models_base(r->server->models, r->words[0]);
    char list[2048];
    if (one) {
        http_reply_json(reply, 200, model_json(one));
    } else {
        models_base_names(r->server->models, list, sizeof list);
        http_reply_error(reply, 404, "there is no model %.100s; there are: %s", r->words[0], list);
    }
    json_decref(one);
}

const http_route routes_openai[] = {
    {"POST", "/v1/images/generations", generations, ROUTE_JSON | ROUTE_LONG,
     "Draws, as OpenAI's clients ask for it", "OpenaiImages", "OpenaiPictures"},
    {"POST", "/v1/images/edits", edits, ROUTE_LONG, "Draws over a picture", "OpenaiEdits",
     "OpenaiPictures"},
    {"GET", "/v1/models", get_models, 0, "Base models", NULL, NULL},
    {"GET", "/v1/models/{model}", get_model, 0, "One of them", NULL, NULL},
    {0}};
