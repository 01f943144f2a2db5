/* SPDX-License-Identifier: Apache-2.0 */
/* draw_read.c - a drawing's request in JSON: members, pictures and limits checked before it
 * waits. */
#include "server/draw.h"
#include "server/picture.h"
#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A text's bytes in the PNG; pictures beyond are left out of it. */
enum { MOST_RECIPE = 1 << 20 };

#define PICTURE_SCHEMA(text)                                                          \
    "{\"type\":[\"string\",\"null\"],\"contentEncoding\":\"base64\",\"description\":" \
    "\"" text "; a data: URL will do too\"}"

static const options_extra picture_members[] = {
    {"type", "{\"enum\":[\"generate\",null]}"},
    {"model", DRAW_MODEL_SCHEMA},
    {"seed",
     "{\"type\":[\"integer\",\"null\"],\"minimum\":-1,\"maximum\":9007199254740991,\"default\":-1,"
     "\"description\":\"of the noise; -1: a new one\"}"},
    {"clip_skip",
     "{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":1000,\"default\":1,"
     "\"description\":\"which of the text encoder's last layers to use: 1 the last\"}"},
    {"iterations", "{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":64,\"default\":1,"
                   "\"description\":\"batches one after the other, the seed counted on\"}"},
    {"preview_interval",
     "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":1000,\"default\":0,"
     "\"description\":\"a preview every so many steps; 0: none\"}"},
    {"recipe", "{\"type\":[\"boolean\",\"null\"],\"default\":false,\"description\":\"the request "
               "itself goes into the PNG, pictures and all, so that the page can bring it back\"}"},
    {"init_image", PICTURE_SCHEMA("draws over this picture instead of from noise")},
    {"mask", PICTURE_SCHEMA("what is white in it is drawn anew")},
    {"reference", PICTURE_SCHEMA("takes its looks from this picture")},
    {"controls", "{\"type\":[\"array\",\"null\"],\"maxItems\":8,\"items\":{\"$ref\":"
                 "\"#/components/schemas/Control\"}}"},
    {0}};

static const options_extra control_members[] = {
    {"model", "{\"type\":\"string\",\"description\":\"a ControlNet of /v1/control-nets\"}"},
    {"image", PICTURE_SCHEMA("the condition, or what the preprocessor makes it from")},
    {"mask", PICTURE_SCHEMA("it acts where this is white")},
    {"weights",
     "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"number\",\"minimum\":-100,"
     "\"maximum\":100},\"maxItems\":64,\"description\":\"a factor for each residual (13) "
     "instead of the mode's\"}"},
    {"resolution", "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":4096,\"default\":0,"
                   "\"description\":\"of the picture's shorter side, at which the preprocessor "
                   "works; 0: the drawing's size\"}"},
    {0}};

static const char *const not_taken[] = {"init-latents", "vae-tile-size", NULL};

json_t *draw_schema(void)
{
    const options_part part = {.rows = cn_generate_option_rows, .not = not_taken};
    const options_part control = {.rows = cn_control_option_rows, .prefix = "control-"};
    return json_pack("{s:o, s:o}", "Generate", options_schema(&part, picture_members, NULL),
                     "Control", options_schema(&control, control_members, "model"));
}

/* --- preprocessors ---------------------------------------------------------------------------- */

static void kinds(const draw_reader *r, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; cn_annotate_kind(i, NULL) && n < cap; i++) {
        const char *kind = cn_annotate_kind(i, NULL);
        if (engine_needs_weights(kind) && !r->options->annotators_dir) continue;
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", kind);
    }
}

bool draw_check_preprocessor(const draw_reader *r, const char *kind, char why[WHY_BYTES])
{
    char name[128], list[2048];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(kind, " "), kind);
    const char *known = cn_annotate_find(name);
    if (known && (!engine_needs_weights(known) || r->options->annotators_dir)) return true;
    for (int i = 0; cn_annotate_alias(i, NULL) && !known; i++)
        if (!strcmp(cn_annotate_alias(i, NULL), name)) return true;
    kinds(r, list, sizeof list);
    if (known)
        snprintf(why, WHY_BYTES,
                 "preprocessor %s: its network isn't here (--annotators); there "
                 "are %s",
                 name, list);
    else
        snprintf(why, WHY_BYTES, "preprocessor \"%s\": there are %s", name, list);
    return false;
}

/* A request's pictures wait in memory, as large as they are when they are unpacked. */
static bool within_budget(const draw_reader *r, const draw_work *w, char why[WHY_BYTES])
{
    enum { PICTURES = 4 };
    const int64_t most = PICTURES * r->options->max_pixels;
    int64_t pixels = 0;
    const cn_image *all[3 + 2 * DRAW_CONTROLS] = {w->init, w->mask, w->reference};
    for (int k = 0; k < w->n_controls; k++) {
        all[3 + 2 * k] = w->own[k].image;
        all[4 + 2 * k] = w->own[k].mask;
    }
    for (int i = 0; i < 3 + 2 * w->n_controls; i++)
        if (all[i]) pixels += cn_image_width(all[i]) * cn_image_height(all[i]);
    if (pixels <= most) return true;
    snprintf(why, WHY_BYTES,
             "the pictures sent have more than %lld pixels in all, %d times what one may have",
             (long long)most, PICTURES);
    return false;
}

/* --- one ControlNet --------------------------------------------------------------------------- */

static bool read_weights(const json_t *object, draw_control *own, cn_control_options *c,
                         char why[WHY_BYTES])
{
    const json_t *list = json_object_get(object, "weights");
    if (!list || json_is_null(list)) return true;
    const size_t n = json_array_size(list);
    bool good = json_is_array(list) && n >= 1 && n <= DRAW_WEIGHTS;
    for (size_t i = 0; good && i < n; i++) {
        const double w = json_number_value(json_array_get(list, i));
        good = json_is_number(json_array_get(list, i)) && w >= -100 && w <= 100;
        own->weights[i] = (float)w;
    }
    if (!good)
        return snprintf(why, WHY_BYTES, "weights: numbers from -100 to 100 are expected"), false;
    c->weights = own->weights;
    c->n_weights = (int)n;
    return true;
}

static bool find_model(const draw_reader *r, const json_t *object, draw_control *own,
                       char why[WHY_BYTES])
{
    const char *name;
    char list[2048];
    if (!json_text(object, "model", NULL, &name, why)) return false;
    own->path = name ? models_find(r->models, name) : NULL;
    if (own->path) return true;
    models_names(r->models, list, sizeof list);
    snprintf(why, WHY_BYTES, "model \"%.200s\": there is no such ControlNet; there are: %s",
             name ? name : "", list);
    return false;
}

static bool read_control(const draw_reader *r, cn_ctx *ctx, const json_t *object, draw_work *w,
                         char why[WHY_BYTES])
{
    draw_control *own = &w->own[w->n_controls];
    cn_control_options *c = &w->controls[w->n_controls++];
    const options_part part = {.rows = cn_control_option_rows, .target = c, .prefix = "control-"};
    if (!json_is_object(object)) return snprintf(why, WHY_BYTES, "an object is expected"), false;
    if (!options_from_json(ctx, &part, control_members, object, why) ||
        !find_model(r, object, own, why) || !read_weights(object, own, c, why) ||
        !json_whole(object, "resolution", 0, 4096, 0, &own->resolution, why) ||
        !picture_from_json(ctx, object, "image", false, &own->image, why) ||
        !picture_from_json(ctx, object, "mask", true, &own->mask, why) || !within_budget(r, w, why))
        return false;
    const bool special = !strcmp(c->preprocessor, "inpaint") || !strcmp(c->preprocessor, "auto");
    if (!special && !draw_check_preprocessor(r, c->preprocessor, why)) return false;
    if (!own->image && !(special && w->init))
        return snprintf(why, WHY_BYTES, "image: a condition image is expected"), false;
    if (c->start >= c->end)
        return snprintf(why, WHY_BYTES, "start %g is not before end %g", c->start, c->end), false;
    c->image = own->image;
    c->mask = own->mask;
    if (!strcmp(c->preprocessor, "auto") || engine_needs_weights(c->preprocessor))
        own->preprocessor_weights[0] = r->options->annotators_dir;
    c->preprocessor_weights = own->preprocessor_weights;
    return true;
}

static bool read_controls(const draw_reader *r, cn_ctx *ctx, const json_t *request, draw_work *w,
                          char why[WHY_BYTES])
{
    const json_t *list = json_object_get(request, "controls");
    char inner[WHY_BYTES];
    if (!list || json_is_null(list)) return true;
    if (!json_is_array(list) || json_array_size(list) > DRAW_CONTROLS)
        return snprintf(why, WHY_BYTES, "controls: a list of at most %d is expected",
                        DRAW_CONTROLS),
               false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (read_control(r, ctx, json_array_get(list, i), w, inner)) continue;
        snprintf(why, WHY_BYTES, "controls[%d].%.4000s", (int)i, inner);
        return false;
    }
    return true;
}

/* --- base models ------------------------------------------------------------------------------ */

char *draw_find_model(const draw_reader *r, json_t *request, char why[WHY_BYTES])
{
    const char *name;
    char list[2048];
    if (!json_text(request, "model", NULL, &name, why)) return NULL;
    json_t *one = models_base(r->models, name);
    char *path = one ? strdup(json_string_value(json_object_get(one, "path"))) : NULL;
    if (path) {
        json_object_set(request, "model", json_object_get(one, "title"));
    } else {
        models_base_names(r->models, list, sizeof list);
        snprintf(why, WHY_BYTES, "model \"%.200s\": there is no such base model; there are: %s",
                 name ? name : "", list);
    }
    json_decref(one);
    return path;
}

/* --- limits ----------------------------------------------------------------------------------- */

static bool is_over(const char *what, double value, double most, char why[WHY_BYTES])
{
    if (value <= most) return false;
    snprintf(why, WHY_BYTES, "%s: %.15g is more than this server's %.15g", what, value, most);
    return true;
}

static bool within_limits(const server_options *limits, const draw_work *w, char why[WHY_BYTES])
{
    const cn_generate_options *o = &w->o;
    const double scale = o->hires_scale > 1 ? o->hires_scale : 1;
    const double pixels = (double)o->width * (double)o->height * scale * scale;
    const size_t prompt = o->prompt ? strlen(o->prompt) : 0;
    const size_t negative = o->negative_prompt ? strlen(o->negative_prompt) : 0;
    return !is_over("steps", o->steps, limits->max_steps, why) &&
           !is_over("hires_steps", o->hires_steps, limits->max_steps, why) &&
           !is_over("pictures in all", (double)o->batch * w->iterations, limits->max_batch, why) &&
           !is_over("pixels", pixels, (double)limits->max_pixels, why) &&
           !is_over("prompt: bytes", (double)prompt, limits->max_prompt, why) &&
           !is_over("negative_prompt: bytes", (double)negative, limits->max_prompt, why);
}

/* --- the request ------------------------------------------------------------------------------ */

/* Clients that count in JavaScript's numbers get one back that they can send again. */
static bool choose_seed(json_t *request, uint64_t *seed, char why[WHY_BYTES])
{
    int64_t given;
    uint32_t random = 0;
    if (!json_whole(request, "seed", -1, 9007199254740991, -1, &given, why)) return false;
    if (given < 0 && getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return snprintf(why, WHY_BYTES, "the system gives no random numbers"), false;
    *seed = given < 0 ? random : (uint64_t)given;
    json_object_set_new(request, "seed", json_integer((json_int_t)*seed));
    return true;
}

static json_t *without_pictures(const json_t *request)
{
    json_t *copy = cn_json_copy(request), *list = json_array(), *one;
    size_t i;
    json_object_del(copy, "init_image");
    json_object_del(copy, "mask");
    json_object_del(copy, "reference");
    json_array_foreach(json_object_get(request, "controls"), i, one)
    {
        json_t *control = cn_json_copy(one);
        json_object_del(control, "image");
        json_object_del(control, "mask");
        json_array_append_new(list, control);
    }
    json_object_set_new(copy, "controls", list);
    return copy;
}

/* What makes the picture: previews don't. */
static char *recipe_of(const json_t *request)
{
    json_t *all = cn_json_copy(request), *less = NULL;
    json_object_del(all, "preview_interval");
    char *text = cn_json_text(all, JSON_COMPACT);
    if (text && strlen(text) > MOST_RECIPE) {
        free(text);
        less = without_pictures(all);
        text = cn_json_text(less, JSON_COMPACT);
    }
    json_decref(less);
    json_decref(all);
    return text;
}

/* What two requests must have in common to be drawn at once. */
static void set_key(const json_t *request, draw_work *w)
{
    json_t *all = cn_json_copy(request);
    static const char *const apart[] = {"seed", "preview_interval", "recipe"};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) json_object_del(all, apart[i]);
    char *text = cn_json_text(all, JSON_COMPACT | JSON_SORT_KEYS);
    w->can_share = text && w->o.batch == 1 && w->iterations == 1 && !w->init;
    if (w->can_share) sha256(text, strlen(text), w->key);
    free(text);
    json_decref(all);
}

static bool check_names(const cn_generate_options *o, char why[WHY_BYTES])
{
    size_t n = 0;
    int i = 0;
    while (cn_generate_scheduler(i) && strcmp(cn_generate_scheduler(i), o->scheduler) != 0) i++;
    if (!cn_generate_scheduler(i)) {
        n = (size_t)snprintf(why, WHY_BYTES, "scheduler \"%.100s\": there are", o->scheduler);
        for (i = 0; cn_generate_scheduler(i) && n < WHY_BYTES; i++)
            n += (size_t)snprintf(why + n, WHY_BYTES - n, " %s", cn_generate_scheduler(i));
        return false;
    }
    if (cn_generate_sampler_named(o->sampler)) return true;
    n = (size_t)snprintf(why, WHY_BYTES, "sampling_method \"%.100s\": there are", o->sampler);
    for (i = 0; cn_generate_sampler(i) && n < WHY_BYTES; i++)
        n += (size_t)snprintf(why + n, WHY_BYTES - n, " %s", cn_generate_sampler(i));
    return false;
}

static bool read_all(const draw_reader *r, cn_ctx *ctx, json_t *request, draw_work *w,
                     char why[WHY_BYTES])
{
    const options_part part = {.rows = cn_generate_option_rows, .target = &w->o, .not = not_taken};
    const json_t *recipe = json_object_get(request, "recipe");
    int64_t clip_skip, iterations, interval;
    if (recipe && !json_is_null(recipe) && !json_is_boolean(recipe))
        return snprintf(why, WHY_BYTES, "recipe: true or false is expected"), false;
    if (!options_from_json(ctx, &part, picture_members, request, why) ||
        !(w->model = draw_find_model(r, request, why)) || !choose_seed(request, &w->o.seed, why) ||
        !json_whole(request, "clip_skip", 1, 1000, 1, &clip_skip, why) ||
        !json_whole(request, "iterations", 1, 64, 1, &iterations, why) ||
        !json_whole(request, "preview_interval", 0, 1000, 0, &interval, why) ||
        !check_names(&w->o, why))
        return false;
    w->o.clip_skip = (int)clip_skip - 1;
    w->iterations = (int)iterations;
    w->o.preview_interval = (int)interval;
    if (!within_limits(r->options, w, why) ||
        !picture_from_json(ctx, request, "init_image", false, &w->init, why) ||
        !picture_from_json(ctx, request, "mask", true, &w->mask, why) ||
        !picture_from_json(ctx, request, "reference", false, &w->reference, why) ||
        !read_controls(r, ctx, request, w, why))
        return false;
    w->o.init_image = w->init;
    w->o.mask = w->mask;
    w->o.reference = w->reference;
    w->o.controls = w->controls;
    if (w->mask && !w->init) return snprintf(why, WHY_BYTES, "mask: init_image is missing"), false;
    if (w->o.strength > 0 && !w->init)
        return snprintf(why, WHY_BYTES, "strength: init_image is missing"), false;
    if (r->options->batch_jobs > 1) set_key(request, w);
    if (!json_is_true(recipe)) return true;
    w->recipe = recipe_of(request);
    return w->recipe || (snprintf(why, WHY_BYTES, "out of memory"), false);
}

void *draw_read(const draw_reader *r, json_t *request, char why[WHY_BYTES])
{
    cn_ctx *ctx = cn_ctx_create(1);
    draw_work *w = calloc(1, sizeof *w);
    bool good = false;
    if (ctx && w) {
        cn_ctx_set_max_pixels(ctx, r->options->max_pixels);
        good = read_all(r, ctx, request, w, why);
    } else {
        snprintf(why, WHY_BYTES, "out of memory");
    }
    cn_ctx_destroy(ctx);
    if (good) return w;
    if (w) draw_job.free_work(w);
    return NULL;
}
