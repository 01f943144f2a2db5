/* SPDX-License-Identifier: Apache-2.0 */
/* webui_draw.c - stable-diffusion-webui's txt2img and img2img (modules/api/models.py and
 * modules/processing.py for the members and their defaults) to the server's own request.
 *
 * Members that change the picture there and can't here are refused when they are set; the others
 * are let through.
 */
#include "server/webui.h"

#include "controlnet.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define COMMON                                                                                    \
    {"prompt", MEMBER_TEXT, 0, 0, "prompt", "with (word:1.2), [word], BREAK, <lora:name:1>"},     \
        {"negative_prompt", MEMBER_TEXT, 0, 0, "negative_prompt", NULL},                          \
        {"seed", MEMBER_WHOLE, -1, 9007199254740991.0, "seed", "-1: a new one"},                  \
        {"sampler_name", MEMBER_TEXT, 0, 0, NULL, "of /sdapi/v1/samplers; webui's names do too"}, \
        {"sampler_index", MEMBER_TEXT, 0, 0, NULL, "its older name"},                             \
        {"scheduler", MEMBER_TEXT, 0, 0, NULL, "of /sdapi/v1/schedulers; Automatic"},             \
        {"steps", MEMBER_WHOLE, 1, 1000, "steps", "50 unless given"},                             \
        {"cfg_scale", MEMBER_NUMBER, -1000, 1000, "cfg_scale", "7 unless given"},                 \
        {"width", MEMBER_WHOLE, 0, 32768, "width", "the model's own size unless given"},          \
        {"height", MEMBER_WHOLE, 0, 32768, "height", "the same"},                                 \
        {"batch_size", MEMBER_WHOLE, 1, 1024, "batch_count", NULL},                               \
        {"n_iter", MEMBER_WHOLE, 1, 64, "iterations", NULL},                                      \
        {"eta", MEMBER_NUMBER, 0, 1, "eta", "of tcd"},                                            \
        {"send_images", MEMBER_BOOL, 0, 0, NULL, NULL},                                           \
        {"override_settings",                                                                     \
         MEMBER_OBJECT,                                                                           \
         0,                                                                                       \
         0,                                                                                       \
         NULL,                                                                                    \
         "sd_model_checkpoint, CLIP_stop_at_last_layers"},                                        \
        {"override_settings_restore_afterwards", MEMBER_BOOL, 0, 0, NULL, "false: they stay"},    \
        {"alwayson_scripts", MEMBER_OBJECT, 0, 0, NULL, "controlnet, with its units as args"},    \
    {                                                                                             \
        "denoising_strength", MEMBER_NUMBER, 0, 1, NULL, NULL                                     \
    }

const member webui_txt2img_members[] = {
    COMMON,
    {"enable_hr", MEMBER_BOOL, 0, 0, NULL, "a second, larger pass"},
    {"hr_scale", MEMBER_NUMBER, 1, 8, NULL, "2 unless given"},
    {"hr_resize_x", MEMBER_WHOLE, 0, 32768, NULL, "instead of hr_scale"},
    {"hr_resize_y", MEMBER_WHOLE, 0, 32768, NULL, "the same"},
    {"hr_second_pass_steps", MEMBER_WHOLE, 0, 1000, NULL, NULL},
    {"hr_upscaler", MEMBER_TEXT, 0, 0, NULL, "Latent or Lanczos"},
    {0}};

const member webui_img2img_members[] = {
    COMMON,
    {"init_images", MEMBER_LIST, 0, 0, NULL, "one picture"},
    {"mask", MEMBER_PICTURE, 0, 0, "mask", "what is white in it is drawn anew"},
    {"mask_blur", MEMBER_WHOLE, 0, 64, "mask_blur", "4 unless given"},
    {"inpainting_fill", MEMBER_WHOLE, 0, 3, NULL, NULL},
    {"inpaint_full_res", MEMBER_BOOL, 0, 0, NULL, "true unless it says otherwise"},
    {"inpaint_full_res_padding", MEMBER_WHOLE, 0, 1024, "inpaint_full_res_padding", NULL},
    {"inpainting_mask_invert", MEMBER_ANY, 0, 0, NULL, "0 or 1"},
    {"resize_mode", MEMBER_WHOLE, 0, 3, NULL,
     "0 stretches a picture of other proportions, 1 crops it, 2 draws its edges out, 3 stretches "
     "its "
     "latents"},
    {0}};

/* --- what isn't here -------------------------------------------------------------------------- */

static bool refuse_others(const json_t *body, char why[WHY_BYTES])
{
    static const char *const names[] = {"subseed_strength",
                                        "restore_faces",
                                        "tiling",
                                        "styles",
                                        "s_min_uncond",
                                        "s_churn",
                                        "refiner_checkpoint",
                                        "script_name",
                                        "hr_checkpoint_name",
                                        "hr_sampler_name",
                                        "hr_scheduler",
                                        "hr_prompt",
                                        "hr_negative_prompt",
                                        "firstpass_image",

                                        NULL};
    for (int i = 0; names[i]; i++) {
        if (!member_is_set(body, names[i])) continue;
        /* webuiapi and others send the second pass's as they are for the first */
        if (strncmp(names[i], "hr_", 3) == 0 && !json_is_true(json_object_get(body, "enable_hr")))
            continue;
        return snprintf(why, WHY_BYTES, "%s: this server doesn't have that", names[i]), false;
    }
    return true;
}

static bool has_args(const json_t *script)
{
    return json_array_size(json_object_get(script, "args")) > 0;
}

static bool check_scripts(const json_t *body, char why[WHY_BYTES])
{
    const json_t *scripts = json_object_get(body, "alwayson_scripts");
    const char *name;
    json_t *script;
    json_object_foreach((json_t *)(uintptr_t)scripts, name, script)
    {
        if (strcasecmp(name, "controlnet") == 0 || !has_args(script)) continue;
        return snprintf(why, WHY_BYTES,
                        "alwayson_scripts: \"%.100s\" isn't here; there is controlnet", name),
               false;
    }
    return true;
}

/* --- names ------------------------------------------------------------------------------------ */

/* "Align Your Steps" and "SGM Uniform" to the names here. */
static void scheduler_name(const char *name, char *out, size_t cap)
{
    snprintf(out, cap, "%s", name);
    for (char *c = out; *c; c++) *c = *c == ' ' ? '_' : (char)tolower((unsigned char)*c);
    if (strcmp(out, "automatic") == 0 || strcmp(out, "uniform") == 0) snprintf(out, cap, "default");
    if (strcmp(out, "align_your_steps") == 0) snprintf(out, cap, "ays");
}

static void set_sampler(const json_t *body, json_t *out)
{
    const char *sampler = member_text(body, "sampler_name");
    const char *scheduler = member_text(body, "scheduler");
    char name[64];
    if (!sampler) sampler = member_text(body, "sampler_index");
    json_object_set_new(out, "sampling_method", json_string(sampler ? sampler : "Euler"));
    if (!scheduler) return;
    scheduler_name(scheduler, name, sizeof name);
    json_object_set_new(out, "scheduler", json_string(name));
}

/* --- parts ------------------------------------------------------------------------------------ */

static bool set_second_pass(const json_t *body, json_t *out, char why[WHY_BYTES])
{
    const char *upscaler = member_text(body, "hr_upscaler");
    const double x = member_number(body, "hr_resize_x", 0), w = member_number(body, "width", 0);
    const double y = member_number(body, "hr_resize_y", 0), h = member_number(body, "height", 0);
    double scale = member_number(body, "hr_scale", 2);
    if ((x > 0 || y > 0) && w > 0 && h > 0) scale = x > 0 ? x / w : y / h;
    if (x > 0 && y > 0 && (w <= 0 || h <= 0 || x * h != y * w))
        return snprintf(why, WHY_BYTES,
                        "hr_resize_x, hr_resize_y: the proportions of width and "
                        "height are expected"),
               false;
    const bool latent = !upscaler || strcasecmp(upscaler, "Latent") == 0;
    if (!latent && strcasecmp(upscaler, "Lanczos") != 0)
        return snprintf(why, WHY_BYTES, "hr_upscaler \"%.100s\": there are Latent and Lanczos",
                        upscaler),
               false;
    json_object_set_new(out, "hires_scale", json_real(scale));
    json_object_set_new(out, "hires_upscaler", json_string(latent ? "latent" : "pixel"));
    const double steps = member_number(body, "hr_second_pass_steps", 0);
    if (steps > 0) json_object_set_new(out, "hires_steps", json_integer((json_int_t)steps));
    const double strength = member_number(body, "denoising_strength", 0.75);
    json_object_set_new(out, "hires_strength", json_real(strength > 0 ? strength : 0.75));
    return true;
}

static bool set_picture(const json_t *body, json_t *out, char why[WHY_BYTES])
{
    static const char *const resizes[] = {"stretch", "crop", "fill", "latent"};
    static const char *const fills[] = {"fill", "original", "latent-noise", "latent-nothing"};
    const json_t *list = json_object_get(body, "init_images"), *invert;
    json_t *first = json_array_get(list, 0);
    if (json_array_size(list) != 1 || !json_is_string(first) || !*json_string_value(first))
        return snprintf(why, WHY_BYTES, "init_images: a list of one picture is expected"), false;
    const char *resize = resizes[(int)member_number(body, "resize_mode", 0)];
    json_object_set_new(out, "init_resize", json_string(resize));
    json_object_set(out, "init_image", first);
    const double strength = member_number(body, "denoising_strength", 0.75);
    if (strength <= 0)
        return snprintf(why, WHY_BYTES, "denoising_strength: more than 0 is expected"), false;
    json_object_set_new(out, "strength", json_real(strength));
    if (!json_object_get(out, "mask")) return true;
    const int fill = (int)member_number(body, "inpainting_fill", 0);
    json_object_set_new(out, "inpainting_fill", json_string(fills[fill]));
    json_object_set_new(out, "inpaint_full_res",
                        json_boolean(!json_is_false(json_object_get(body, "inpaint_full_res"))));
    invert = json_object_get(body, "inpainting_mask_invert");
    if (json_is_true(invert) || json_number_value(invert) != 0)
        json_object_set_new(out, "inpainting_mask_invert", json_true());
    return true;
}

static bool set_clip_skip(const json_t *body, int otherwise, json_t *out, char why[WHY_BYTES])
{
    static const char name[] = "CLIP_stop_at_last_layers";
    const json_t *settings = json_object_get(body, "override_settings");
    int64_t layers;
    if (!json_whole(settings, name, 1, 1000, otherwise, &layers, why)) return false;
    json_object_set_new(out, "clip_skip", json_integer(layers));
    return true;
}

static bool set_model(const json_t *body, json_t *out, char why[WHY_BYTES])
{
    const json_t *settings = json_object_get(body, "override_settings");
    const char *name;
    if (!json_text(settings, "sd_model_checkpoint", NULL, &name, why)) return false;
    if (name && *name) json_object_set_new(out, "model", json_string(name));
    return true;
}

json_t *webui_draw_request(const json_t *body, bool from_picture, int clip_skip, json_t **maps,
                           char why[WHY_BYTES])
{
    const member *table = from_picture ? webui_img2img_members : webui_txt2img_members;
    const bool hires = !from_picture && json_is_true(json_object_get(body, "enable_hr"));
    *maps = NULL;
    if (!members_check(table, body, true, why) || !refuse_others(body, why) ||
        !check_scripts(body, why))
        return NULL;
    json_t *out = json_pack("{s:s, s:s, s:i, s:f, s:s}", "prompt", "", "prompt_style", "webui",
                            "steps", 50, "cfg_scale", 7.0, "type", "generate");
    members_copy(table, body, out);
    set_sampler(body, out);
    json_t *controls = webui_controls(body, hires, out, maps, why);
    bool good = controls && set_clip_skip(body, clip_skip, out, why) && set_model(body, out, why);
    if (controls) json_object_set_new(out, "controls", controls);
    if (good && from_picture) good = set_picture(body, out, why);
    if (good && hires) good = set_second_pass(body, out, why);
    /* as the web page there, a preview now and then */
    json_object_set_new(out, "preview_interval", json_integer(5));
    if (good) return out;
    json_decref(out);
    json_decref(*maps);
    *maps = NULL;
    return NULL;
}
