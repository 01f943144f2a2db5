/* SPDX-License-Identifier: Apache-2.0 */
/* routes_control.c - the routes of stable-diffusion-webui's ControlNet extension (its wiki,
 * "API"). */
#include "server/base64.h"
#include "server/server_internal.h"
#include "server/webui.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { API_VERSION = 2, MOST_INPUTS = 16 };

const member webui_detect_members[] = {
    {"controlnet_module", MEMBER_TEXT, 0, 0, NULL, "a preprocessor of /controlnet/module_list"},
    {"controlnet_input_images", MEMBER_LIST, 0, 0, NULL, "pictures in base64"},
    {"controlnet_images", MEMBER_LIST, 0, 0, NULL, "its older name"},
    {"controlnet_processor_res", MEMBER_WHOLE, -1, 4096, NULL, "of the shorter side; 512"},
    {"controlnet_threshold_a", MEMBER_NUMBER, 0, 0, NULL, "below 0: the preprocessor's own"},
    {"controlnet_threshold_b", MEMBER_NUMBER, 0, 0, NULL, "the same"},
    {"low_vram", MEMBER_BOOL, 0, 0, NULL, "without effect"},
    {0}};

/* --- lists ------------------------------------------------------------------------------------ */

/* Whether a preprocessor makes conditions of pictures and its networks may be there. */
static bool is_usable(const server *s, const char *kind)
{
    const char *takes = cn_annotate_takes(kind), *pictures = cn_annotate_takes("none");
    return takes && strcmp(takes, pictures) == 0 &&
           (!engine_needs_weights(kind) || s->o.annotators_dir);
}

/* Kinds and, as other programs call them, their other names. */
static json_t *modules_of(const server *s)
{
    json_t *list = json_array();
    const char *name, *stands_for;
    for (int i = 0; (name = cn_annotate_kind(i, NULL)); i++)
        if (is_usable(s, name)) json_array_append_new(list, json_string(name));
    for (int i = 0; (name = cn_annotate_alias(i, &stands_for)); i++) {
        char kind[64];
        snprintf(kind, sizeof kind, "%.*s", (int)strcspn(stands_for, " "), stands_for);
        if (is_usable(s, kind)) json_array_append_new(list, json_string(name));
    }
    for (int i = 0; (name = webui_stand_in(i)); i++) json_array_append_new(list, json_string(name));
    return list;
}

static void add_slider(json_t *list, const char *kind, const char *setting)
{
    cn_annotate_setting s;
    for (int i = 0; setting && cn_annotate_setting_at(kind, i, &s); i++)
        if (strcmp(s.name, setting) == 0)
            json_array_append_new(
                list, json_pack("{s:s, s:f, s:f, s:f, s:f}", "name", s.help, "value", s.otherwise,
                                "min", s.min, "max", s.max, "step", s.whole ? 1.0 : 0.01));
}

static json_t *details_of(const json_t *modules)
{
    json_t *out = json_object(), *module;
    size_t i;
    json_array_foreach(modules, i, module)
    {
        const char *name = json_string_value(module), *a, *b;
        json_t *list = json_array();
        webui_thresholds(name, &a, &b);
        if (cn_annotate_find(name) && strcmp(name, "none") != 0)
            json_array_append_new(
                list, json_pack("{s:s, s:i, s:i, s:i, s:i}", "name", "Preprocessor Resolution",
                                "value", 512, "min", 64, "max", 2048, "step", 8));
        if (a) add_slider(list, cn_annotate_find(name), a);
        if (b) add_slider(list, cn_annotate_find(name), b);
        json_object_set_new(out, name, json_pack("{s:b, s:o}", "model_free", 0, "sliders", list));
    }
    return out;
}

static void get_version(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200, json_pack("{s:i}", "version", (int)API_VERSION));
}

static json_t *titles_of(const server *s)
{
    json_t *all = models_list(s->models), *list = json_array(), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        json_array_append(list, json_object_get(one, "title"));
    }
    json_decref(all);
    return list;
}

static void get_model_list(const http_request *r, http_reply *reply)
{
    http_reply_json(reply, 200, json_pack("{s:o}", "model_list", titles_of(r->server)));
}

static void get_module_list(const http_request *r, http_reply *reply)
{
    json_t *modules = modules_of(r->server);
    http_reply_json(
        reply, 200,
        json_pack("{s:o, s:o}", "module_list", modules, "module_detail", details_of(modules)));
}

/* The extension's types, and words by which modules and models belong to them. */
static const struct {
    const char *title, *words[5], *module;
} types[] = {{"Canny", {"canny", NULL}, "canny"},
             {"Depth", {"depth", "midas", NULL}, "depth"},
             {"NormalMap", {"normal", NULL}, "normal"},
             {"OpenPose", {"openpose", "pose", NULL}, "openpose"},
             {"MLSD", {"mlsd", "hough", NULL}, "mlsd"},
             {"Lineart", {"lineart", NULL}, "lineart_standard"},
             {"SoftEdge", {"softedge", "hed", "pidi", NULL}, "pidinet"},
             {"Scribble", {"scribble", "strokes", "sketch", NULL}, "scribble_xdog"},
             {"Segmentation", {"seg", NULL}, "seg"},
             {"Inpaint", {"inpaint", NULL}, "inpaint"},
             {"Tile", {"tile", "blur", NULL}, "none"},
             {"Shuffle", {"shuffle", NULL}, "none"},
             {"IP-Adapter", {"ip-adapter", "ip_adapter", NULL}, "ip-adapter-auto"},
             {"T2I-Adapter", {"t2i-adapter", "t2i_adapter", "t2iadapter", NULL}, "none"}};

static json_t *matching(const json_t *list, const char *const *words, const char *always)
{
    json_t *out = json_pack("[s]", always), *one;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)list, i,
                       one) for (int k = 0; words[k];
                                 k++) if (strcasestr(json_string_value(one), words[k]))
    {
        json_array_append(out, one);
        break;
    }
    return out;
}

static bool matches(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), text)) return true;
    return false;
}

static void add_type(json_t *out, const char *title, json_t *modules, json_t *nets,
                     const char *module)
{
    const bool there = json_array_size(nets) > 1;
    json_object_set_new(
        out, title,
        json_pack("{s:o, s:o, s:s, s:O}", "module_list", modules, "model_list", nets,
                  "default_option", module, "default_model", json_array_get(nets, there ? 1 : 0)));
}

static void get_control_types(const http_request *r, http_reply *reply)
{
    json_t *modules = modules_of(r->server), *nets = titles_of(r->server), *out = json_object();
    json_t *all = json_pack("[s]", "None");
    json_array_extend(all, nets);
    add_type(out, "All", json_incref(modules), all, "none");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const bool there = matches(modules, types[i].module);
        add_type(out, types[i].title, matching(modules, types[i].words, "none"),
                 matching(nets, types[i].words, "None"), there ? types[i].module : "none");
    }
    json_decref(modules);
    json_decref(nets);
    http_reply_json(reply, 200, json_pack("{s:o}", "control_types", out));
}

static void get_settings(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200, json_pack("{s:i}", "control_net_unit_count", (int)DRAW_CONTROLS));
}

/* --- detecting -------------------------------------------------------------------------------- */

/* One picture's map behind the others; false: the error is in the reply. */
static bool detect_one(const http_request *r, const char *kind, int resolution, const json_t *image,
                       json_t *images, http_reply *reply)
{
    json_t *request = json_pack("{s:s, s:s, s:O, s:i}", "type", "annotate", "kind", kind, "image",
                                image, "resolution", resolution);
    job *j = server_add_job(r, request, reply);
    if (!j || !server_wait_job(r, j, reply)) return false;
    char *text = base64_encode(j->pictures[0].png, j->pictures[0].bytes, NULL);
    json_array_append_new(images, json_string(text ? text : ""));
    free(text);
    jobs_release(r->server->jobs, j);
    return true;
}

static void detect(const http_request *r, http_reply *reply)
{
    const json_t *inputs = json_object_get(r->json, "controlnet_input_images");
    const char *module = member_text(r->json, "controlnet_module");
    char why[WHY_BYTES], kind[256];
    if (!members_check(webui_detect_members, r->json, true, why)) {
        http_reply_error(reply, 422, "%s", why);
        return;
    }
    if (!inputs) inputs = json_object_get(r->json, "controlnet_images");
    if (!json_array_size(inputs) || json_array_size(inputs) > MOST_INPUTS) {
        http_reply_error(reply, 422, "controlnet_input_images: 1 to %d pictures are expected",
                         (int)MOST_INPUTS);
        return;
    }
    if (!webui_preprocessor(
            module ? module : "none", member_number(r->json, "controlnet_threshold_a", -1),
            member_number(r->json, "controlnet_threshold_b", -1), kind, sizeof kind)) {
        http_reply_error(reply, 422, "controlnet_module: the name is too long");
        return;
    }
    const double asked = member_number(r->json, "controlnet_processor_res", 512);
    json_t *images = json_array();
    for (size_t i = 0; i < json_array_size(inputs); i++)
        if (!detect_one(r, kind, asked > 0 ? (int)asked : 512, json_array_get(inputs, i), images,
                        reply)) {
            json_decref(images);
            return;
        }
    http_reply_json(reply, 200, json_pack("{s:o, s:s}", "images", images, "info", "Success"));
}

const http_route routes_control[] = {
    {"GET", "/controlnet/version", get_version, 0, "Version of these routes", NULL, NULL},
    {"GET", "/controlnet/model_list", get_model_list, 0, "ControlNets", NULL, NULL},
    {"GET", "/controlnet/module_list", get_module_list, 0, "Preprocessors", NULL, NULL},
    {"GET", "/controlnet/control_types", get_control_types, 0, "Both by types", NULL, NULL},
    {"GET", "/controlnet/settings", get_settings, 0, "How many units a drawing takes", NULL, NULL},
    {"POST", "/controlnet/detect", detect, ROUTE_JSON | ROUTE_LONG, "Conditions of pictures",
     "WebuiDetect", NULL},
    {0}};
