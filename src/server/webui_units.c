/* SPDX-License-Identifier: Apache-2.0 */
/* webui_units.c - units of stable-diffusion-webui's ControlNet extension (its wiki, "API", and
 * scripts/enums.py for the names) to the server's "controls". */
#include "server/webui.h"

#include "controlnet.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const member webui_unit_members[] = {
    {"enabled", MEMBER_BOOL, 0, 0, NULL, "true unless it says otherwise"},
    {"module", MEMBER_TEXT, 0, 0, NULL, "a preprocessor of /controlnet/module_list, or none"},
    {"model", MEMBER_TEXT, 0, 0, "model", "of /controlnet/model_list, with or without its hash"},
    {"weight", MEMBER_NUMBER, -100, 100, "strength", NULL},
    {"image", MEMBER_ANY, 0, 0, NULL, "base64, or an object with image and mask"},
    {"input_image", MEMBER_PICTURE, 0, 0, NULL, "its older name"},
    {"mask", MEMBER_PICTURE, 0, 0, "mask", "it acts where this is white"},
    {"mask_image", MEMBER_PICTURE, 0, 0, "mask", "the same"},
    {"effective_region_mask", MEMBER_PICTURE, 0, 0, "mask", "the same"},
    {"resize_mode", MEMBER_ANY, 0, 0, NULL, "0 to 2, or in words; 3 is 0"},
    {"processor_res", MEMBER_WHOLE, -1, 4096, NULL, "-1: the drawing's size"},
    {"threshold_a", MEMBER_NUMBER, 0, 0, NULL, "below 0: the preprocessor's own"},
    {"threshold_b", MEMBER_NUMBER, 0, 0, NULL, "the same"},
    {"guidance_start", MEMBER_NUMBER, 0, 1, "start", NULL},
    {"guidance_end", MEMBER_NUMBER, 0, 1, "end", NULL},
    {"guidance", MEMBER_NUMBER, 0, 1, "end", "its older name"},
    {"control_mode", MEMBER_ANY, 0, 0, NULL, "0 to 2, or in words"},
    {"pixel_perfect", MEMBER_BOOL, 0, 0, NULL, "the preprocessor works at the drawing's size"},
    {"hr_option", MEMBER_ANY, 0, 0, NULL, "Both, Low res only, High res only"},
    {"advanced_weighting", MEMBER_LIST, 0, 0, "weights", "a factor for each residual"},
    {"save_detected_map", MEMBER_BOOL, 0, 0, NULL, "the condition follows the drawings"},
    {"low_vram", MEMBER_BOOL, 0, 0, NULL, "without effect"},
    {0}};

/* --- words ------------------------------------------------------------------------------------ */

/* Entry i of three, by number or by name; -1: neither. Absent and null: `otherwise`. */
static int choice(const json_t *value, const char *const names[3], int otherwise)
{
    if (!value || json_is_null(value)) return otherwise;
    if (json_is_integer(value)) {
        const json_int_t i = json_integer_value(value);
        return i >= 0 && i < 3 ? (int)i : -1;
    }
    for (int i = 0; json_is_string(value) && i < 3; i++)
        if (strcasecmp(json_string_value(value), names[i]) == 0) return i;
    return -1;
}

typedef struct word_choice {
    const char *name, *to; /* of the unit's member, and the server's */
    const char *const *names, *const *values;
    int otherwise;
} word_choice;

static bool set_choice(const word_choice *c, const json_t *value, json_t *out, char why[WHY_BYTES])
{
    const char *const *names = c->names;
    const int i = choice(value, names, c->otherwise);
    if (i < 0)
        return snprintf(why, WHY_BYTES, "%s: 0, 1 or 2 is expected, or \"%s\", \"%s\", \"%s\"",
                        c->name, names[0], names[1], names[2]),
               false;
    json_object_set_new(out, c->to, json_string(c->values[i]));
    return true;
}

/* Names and numbers of earlier releases. */
static const struct {
    const char *name;
    int number;
    const char *now;
} older_resizes[] = {{"Inner Fit (Scale to Fit)", -1, "Crop and Resize"},
                     {"Scale to Fit (Inner Fit)", -1, "Crop and Resize"},
                     {"Outer Fit (Shrink to Fit)", -1, "Resize and Fill"},
                     {"Envelope (Outer Fit)", -1, "Resize and Fill"},
                     {"Just Resize (Latent upscale)", 3, "Just Resize"}};

/* The unit's resize mode as it is called now, in a reference of its own; NULL: it has none. */
static json_t *resize_of(const json_t *unit)
{
    json_t *value = json_object_get(unit, "resize_mode");
    for (size_t i = 0; i < sizeof older_resizes / sizeof *older_resizes; i++) {
        const bool named = json_is_string(value) &&
                           strcasecmp(json_string_value(value), older_resizes[i].name) == 0;
        const bool numbered =
            json_is_integer(value) && json_integer_value(value) == older_resizes[i].number;
        if (named || numbered) return json_string(older_resizes[i].now);
    }
    return json_incref(value);
}

static const char *const resize_names[] = {"Just Resize", "Crop and Resize", "Resize and Fill"};
static const char *const resize_values[] = {"stretch", "crop", "fill"};
static const char *const mode_names[] = {"Balanced", "My prompt is more important",
                                         "ControlNet is more important"};
/* The extension's HiResFixOption. */
static const char *const pass_names[] = {"Both", "Low res only", "High res only"};
static const char *const pass_values[] = {"both", "first", "second"};
static const char *const mode_values[] = {"balanced", "prompt", "controlnet"};

static const word_choice resize_choice = {"resize_mode", "resize", resize_names, resize_values, 1},
                         mode_choice = {"control_mode", "mode", mode_names, mode_values, 0},
                         pass_choice = {"hr_option", "pass", pass_names, pass_values, 0};

/* --- preprocessors ---------------------------------------------------------------------------- */

/* Which settings the extension's sliders a and b are; the rest have none. */
static const struct {
    const char *kind, *a, *b;
} sliders[] = {{"canny", "low", "high"},
               {"mlsd", "value_threshold", "distance_threshold"},
               {"normal", "bg_threshold", NULL},
               {"scribble_xdog", "threshold", NULL},
               {"threshold", "level", NULL}};

#define REFERENCE "reference_only"

/* The extension's preprocessors that are another part's work here: the initial picture without what
 * its mask shows; the image encoder of an IP-Adapter; self-attentions that see a picture. */
static const struct {
    const char *module, *kind;
} stand_ins[] = {{"inpaint", "inpaint"},
                 {"inpaint_only", "inpaint"},
                 {"inpaint_global_harmonious", "inpaint"},
                 {REFERENCE, "none"},
                 {"ip-adapter-auto", "none"},
                 {"ip-adapter_clip_sd15", "none"},
                 {"ip-adapter_clip_sdxl", "none"},
                 {"ip-adapter_clip_sdxl_plus_vith", "none"}};

const char *webui_stand_in(int i)
{
    return i < (int)(sizeof stand_ins / sizeof *stand_ins) ? stand_ins[i].module : NULL;
}

void webui_thresholds(const char *module, const char **a, const char **b)
{
    const char *kind = cn_annotate_find(module);
    *a = *b = NULL;
    for (size_t i = 0; kind && i < sizeof sliders / sizeof *sliders; i++)
        if (strcmp(sliders[i].kind, kind) == 0) {
            *a = sliders[i].a;
            *b = sliders[i].b;
        }
}

bool webui_preprocessor(const char *module, double a, double b, char *out, size_t cap)
{
    const char *names[2];
    const double values[2] = {a, b};
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(module, " ("), module);
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++)
        if (strcasecmp(name, stand_ins[i].module) == 0)
            snprintf(name, sizeof name, "%s", stand_ins[i].kind);
    size_t n = (size_t)snprintf(out, cap, "%s", strcasecmp(name, "none") == 0 ? "none" : name);
    if (n >= cap) return false;
    webui_thresholds(name, &names[0], &names[1]);
    for (int i = 0; i < 2 && n < cap; i++)
        if (names[i] && values[i] >= 0)
            n += (size_t)snprintf(out + n, cap - n, " %s=%.9g", names[i], values[i]);
    return n < cap;
}

static bool set_preprocessor(const json_t *unit, json_t *out, char why[WHY_BYTES])
{
    const char *module = member_text(unit, "module");
    char text[256];
    if (!webui_preprocessor(module ? module : "none", member_number(unit, "threshold_a", -1),
                            member_number(unit, "threshold_b", -1), text, sizeof text))
        return snprintf(why, WHY_BYTES, "module: the name is too long"), false;
    json_object_set_new(out, "preprocessor", json_string(text));
    const double resolution = member_number(unit, "processor_res", -1);
    if (resolution > 0 && !json_is_true(json_object_get(unit, "pixel_perfect")))
        json_object_set_new(out, "resolution", json_integer((json_int_t)resolution));
    return true;
}

/* --- units ------------------------------------------------------------------------------------ */

static bool set_image(const json_t *unit, json_t *out, char why[WHY_BYTES])
{
    json_t *image = json_object_get(unit, "image");
    if (!image || json_is_null(image)) image = json_object_get(unit, "input_image");
    if (json_is_object(image)) {
        json_t *mask = json_object_get(image, "mask");
        if (json_is_string(mask) && !json_object_get(out, "mask"))
            json_object_set(out, "mask", mask);
        image = json_object_get(image, "image");
    }
    if (image && !json_is_null(image) && !json_is_string(image))
        return snprintf(why, WHY_BYTES, "image: base64 is expected, or an object with it"), false;
    if (image) json_object_set(out, "image", image);
    return true;
}

/* A unit without a picture takes the initial one, as the extension does. */
static void take_initial(const json_t *body, json_t *out)
{
    const json_t *list = json_object_get(body, "init_images");
    json_t *first = json_array_get(list, 0);
    if (!member_text(out, "image") && json_is_string(first)) json_object_set(out, "image", first);
}

static json_t *read_unit(const json_t *body, const json_t *unit, bool has_second_pass,
                         char why[WHY_BYTES])
{
    json_t *out = json_object();
    members_copy(webui_unit_members, unit, out);
    json_t *resize = resize_of(unit);
    bool good = set_image(unit, out, why) && set_preprocessor(unit, out, why) &&
                set_choice(&resize_choice, resize, out, why) &&
                set_choice(&mode_choice, json_object_get(unit, "control_mode"), out, why) &&
                set_choice(&pass_choice, json_object_get(unit, "hr_option"), out, why);
    json_decref(resize);
    if (good && !has_second_pass) json_object_del(out, "pass");
    take_initial(body, out);
    if (good) return out;
    json_decref(out);
    return NULL;
}

static bool is_reference(const json_t *unit)
{
    const char *module = member_text(unit, "module");
    return module && strcasecmp(module, REFERENCE) == 0;
}

/* The extension's "Style Fidelity" counts where the modes are balanced; else one or the other is
 * all. A weight above 1 is as 1 there. */
static bool set_reference(const json_t *body, const json_t *unit, json_t *drawing,
                          char why[WHY_BYTES])
{
    const int mode = choice(json_object_get(unit, "control_mode"), mode_names, 0);
    const double weight = member_number(unit, "weight", 1),
                 asked = member_number(unit, "threshold_a", 0.5);
    const double balanced = asked < 0 ? 0.5 : asked > 1 ? 1 : asked;
    json_t *one = json_object();
    bool good = set_image(unit, one, why);
    take_initial(body, one);
    if (good && json_object_get(drawing, "reference"))
        good = (snprintf(why, WHY_BYTES, "module: one " REFERENCE " is possible"), false);
    if (good && !member_text(one, "image"))
        good = (snprintf(why, WHY_BYTES, "image: " REFERENCE " needs one"), false);
    if (good) {
        json_object_set(drawing, "reference", json_object_get(one, "image"));
        json_object_set_new(drawing, "reference_strength",
                            json_real(weight < 0   ? 0
                                      : weight > 1 ? 1
                                                   : weight));
        json_object_set_new(drawing, "style_fidelity",
                            json_real(mode == 1   ? 0
                                      : mode == 2 ? 1
                                                  : balanced));
    }
    json_decref(one);
    return good;
}

static bool is_enabled(const json_t *unit)
{
    const json_t *enabled = json_object_get(unit, "enabled");
    return json_object_size(unit) && (!enabled || !json_is_false(enabled));
}

/* The extension's script goes by either name. */
static const json_t *units_of(const json_t *body)
{
    const json_t *scripts = json_object_get(body, "alwayson_scripts");
    const char *name;
    json_t *script;
    json_object_foreach(
        (json_t *)(uintptr_t)scripts, name,
        script) if (strcasecmp(name, "controlnet") == 0) return json_object_get(script, "args");
    return json_object_get(body, "controlnet_units");
}

json_t *webui_controls(const json_t *body, bool has_second_pass, json_t *drawing, json_t **maps,
                       char why[WHY_BYTES])
{
    json_t *out = json_array(), *shown = json_array(), *unit;
    const json_t *units = units_of(body);
    char inner[WHY_BYTES];
    size_t i;
    json_array_foreach(units, i, unit)
    {
        if (!json_is_object(unit)) continue; /* older clients put switches before the units */
        if (!is_enabled(unit)) continue;
        bool good = members_check(webui_unit_members, unit, true, inner);
        if (good && is_reference(unit) && set_reference(body, unit, drawing, inner)) continue;
        good = good && !is_reference(unit);
        json_t *one = good ? read_unit(body, unit, has_second_pass, inner) : NULL;
        if (!one) {
            snprintf(why, WHY_BYTES, "unit %d: %.4000s", (int)i, inner);
            json_decref(out);
            json_decref(shown);
            return NULL;
        }
        json_array_append_new(out, one);
        json_array_append_new(
            shown, json_boolean(!json_is_false(json_object_get(unit, "save_detected_map"))));
    }
    *maps = shown;
    return out;
}
