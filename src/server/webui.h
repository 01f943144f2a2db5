/* SPDX-License-Identifier: Apache-2.0 */
/* webui.h - stable-diffusion-webui's requests and those of its ControlNet extension, to the
 * server's own. */
#ifndef CN_SERVER_WEBUI_H
#define CN_SERVER_WEBUI_H

#include "server/members.h"

extern const member webui_txt2img_members[], webui_img2img_members[], webui_detect_members[],
    webui_unit_members[];

/* A drawing's request; NULL with `why`. clip_skip: of the options. *maps: for each control unit
 * whether its detected map is among the pictures of the answer. */
json_t *webui_draw_request(const json_t *body, bool from_picture, int clip_skip, json_t **maps,
                           char why[WHY_BYTES]);
/* "controls" of the units in alwayson_scripts, [] for none; what a unit of reference_only says
 * goes into `drawing`. has_second_pass: hr_option counts. */
json_t *webui_controls(const json_t *body, bool has_second_pass, json_t *drawing, json_t **maps,
                       char why[WHY_BYTES]);
/* "canny low=100 high=200" of a module and its thresholds (below 0: the module's own); false: the
 * name is too long. */
bool webui_preprocessor(const char *module, double a, double b, char *out, size_t cap);
/* Modules that aren't preprocessors here, but are taken: "inpaint_only", "ip-adapter-auto"; NULL
 * behind the last. */
const char *webui_stand_in(int i);
/* The settings that an extension's sliders set, NULL: the module has none. */
void webui_thresholds(const char *module, const char **a, const char **b);

/* "parameters" of a PNG as an object: "Prompt", "Negative prompt", "Steps", ... */
json_t *webui_parse_parameters(const char *text);

#endif
