/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate_options.c - controlnet generate: its options beside the library's, and what they
 * come to together. */
#include "cli/cli_generate.h"

#include <stdlib.h>
#include <string.h>

#define WORDS(...)                 \
    .words = (const char *const[]) \
    {                              \
        __VA_ARGS__, NULL          \
    }

/* --- tables ----------------------------------------------------------------------------------- */

/* The order of the help's headings. */
static const cn_option headings[] = {
    {.help = "Model"},
    {.help = "Control; repeat the group for several ControlNets at once"},
    {.help = "Image prompts; repeat the group for several IP-Adapters at once"},
    {.help = "Picture"},
    {.help = CN_OPTIONS_ASIDE},
    {0},
};

#define IP_ADAPTER    "ip-adapter"
#define FIELD(member) CN_FIELD(control, member)

static const cn_option control_rows[] = {
    {.help = "Control; repeat the group for several ControlNets at once"},
    {"control-net", 0, "the ControlNet", FIELD(net), .arg = "FILE|DIR"},
    {"control-image", 0, "its condition image (PNG, JPEG, WebP, ...)", FIELD(image), .arg = "IMG"},
    {"control-mask", 0, "it acts where this is white, or opaque in a picture with transparency",
     FIELD(mask), .arg = "IMG"},
    {"control-weights", 0,
     "a factor for each of the ControlNet's residuals (13), from the first block's to the "
     "middle's, instead of the mode's",
     FIELD(factors), .arg = "W,...,W"},
    {"control-preprocessor-model", 0,
     "the preprocessor's network: a file, or a folder of files as published", FIELD(model),
     .arg = "WEIGHTS"},

    {.help = "Image prompts; repeat the group for several IP-Adapters at once"},
    {IP_ADAPTER, 0,
     "the IP-Adapter; --control-mask, --control-weights, --control-start and --control-end behind "
     "it are its own",
     FIELD(ip_adapter), .arg = "FILE"},
    {"image-prompt", 0,
     "a picture that the drawing is to resemble. May be given several times: the images count "
     "alike",
     FIELD(image), .arg = "IMG"},
    {"image-prompt-strength", 0, "how strongly it acts", FIELD(o.strength), -100, 100,
     .preset = "1"},
    {0},
};

#undef FIELD
#define FIELD(member) CN_FIELD(request, member)

static const cn_option rows[] = {
    {.help = "Model"},
    {"lora", 0,
     "a file, or peft's or diffusers' folder, merged into the weights (WEIGHT 1). May be given "
     "several times",
     FIELD(lora_files), .arg = "FILE[:WEIGHT]"},
    {"embedding", 0,
     "textual inversion; its word in a prompt is the file's name. May be given several times",
     FIELD(embeddings), .arg = "FILE"},

    {.help = "Picture"},
    {"seed", 's', "of the noise; -1: a new one, which is printed", FIELD(seed), -1,
     (double)INT64_MAX, .preset = "-1"},
    {"clip-skip", 0, "which of the text encoder's last layers to use: 1 the last, 2 the one before",
     FIELD(clip_skip), 1, 1000, .preset = "1"},
    {"init-img", 'i', "draws over this picture instead of from noise", FIELD(init), .arg = "IMG"},
    {"mask", 0,
     "what of the initial picture is drawn anew: the white part, or the opaque one of a picture "
     "with transparency",
     FIELD(mask), .arg = "IMG"},
    {"reference", 0,
     "takes its looks from this picture, without a network of its own: the drawing's "
     "self-attentions see it (\"reference-only\")",
     FIELD(reference), .arg = "IMG"},

    {.help = CN_OPTIONS_ASIDE},
    {"from", 0,
     "begins with the options that a picture was drawn with; those given here come on top, and the "
     "first --control-net or --ip-adapter given replaces all of the picture's (so do --lora and "
     "--embedding)",
     FIELD(from), .arg = "PICTURE.png"},
    {"output", 'o', "OUT_0.png, OUT_1.png, ... for several pictures; -: standard output",
     FIELD(output), .preset = "output.png", .arg = "OUT.png"},
    {"no-recipe", 0,
     "leaves the options for --from out of the PNG file; stable-diffusion-webui's \"parameters\" "
     "stay",
     FIELD(no_recipe)},
    {"grid", 0, "OUT_grid.png too: the batch side by side", FIELD(grid)},
    {"preview", 0,
     "a picture of how far the drawing is, while it is drawn: by the VAE, by TAESD "
     "(--preview-model), "
     "or by a linear map of the latents",
     FIELD(preview), WORDS("none", "vae", "taesd", "latent"), .preset = "none"},
    {"preview-path", 0, "where it goes", FIELD(preview_path), .preset = "preview.png",
     .arg = "FILE.png"},
    {"dry-run", 0, "say what the drawing takes in memory; draw nothing", FIELD(dry_run)},
    CLI_THREADS(request),
    CLI_MAX_PIXELS(request),
    {"verbose", 'v', "what was done with the prompts", FIELD(verbose)},
    CLI_JSON(request, "results as JSON lines"),
    {0},
};

enum { CONTROL_PART = 2, CONTROL_LIBRARY_PART = 3 };

void generate_parts(request *r)
{
    const cli_part parts[GENERATE_PARTS + 1] = {
        {headings, NULL},
        {cn_pipeline_option_rows, &r->pipeline},
        [CONTROL_PART] = {control_rows, NULL},
        [CONTROL_LIBRARY_PART] = {cn_control_option_rows, NULL},
        {cn_generate_option_rows, &r->generate},
        {rows, r}};
    memcpy(r->parts, parts, sizeof parts);
}

static bool is_control(const cli_setting *g)
{
    return g->part->rows == control_rows || g->part->rows == cn_control_option_rows;
}

static bool opens_adapter(const cli_setting *g)
{
    return strcmp(g->row->name, IP_ADAPTER) == 0;
}

static bool opens_control(const cli_setting *g)
{
    return strcmp(g->row->name, "control-net") == 0 || opens_adapter(g);
}

/* A second one behind the same --control-net is a further condition's, or image prompt's behind the
 * same --ip-adapter. */
static bool opens_condition(const cli_setting *g)
{
    return strcmp(g->row->name, "control-type") == 0;
}

static bool opens_image(const cli_setting *g)
{
    return strcmp(g->row->name, "image-prompt") == 0;
}

bool generate_begins_list(const cli_setting *g)
{
    return g->row->type == CN_FIELD_LIST || opens_control(g) || opens_condition(g) ||
           opens_image(g);
}

bool generate_same_list(const cli_setting *a, const cli_setting *b)
{
    return a->row == b->row || (is_control(a) && is_control(b));
}

bool generate_makes_picture(const cli_setting *g)
{
    const cn_option *row = g->row;
    while (row->name) row--;
    return strcmp(row->help, CN_OPTIONS_ASIDE) != 0;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Numbers with commas between; how many, 0 after a message. */
static int read_factors(const cli_parser *p, control *c)
{
    int n = 0;
    for (const char *at = c->factors; n < MAX_WEIGHTS;) {
        char *end;
        const float w = strtof(at, &end);
        if (end == at || !(w >= -100 && w <= 100)) break;
        c->weights[n++] = w;
        if (!*end) return n;
        if (*end != ',') break;
        at = end + 1;
    }
    cli_usage_error(p, "--control-weights %s: numbers from -100 to 100 with commas are expected",
                    c->factors);
    return 0;
}

/* FILE or FILE:WEIGHT; a colon that no number follows belongs to the name. */
static bool read_lora(const cli_parser *p, char *value, cn_lora_option *out)
{
    char *colon = strrchr(value, ':'), *end = NULL;
    *out = (cn_lora_option){value, 1};
    if (!colon || !colon[1]) return true;
    const double weight = strtod(colon + 1, &end);
    if (*end) return true;
    if (!(weight >= -100 && weight <= 100)) {
        cli_usage_error(p, "--lora %s: the weight must lie between -100 and 100", value);
        return false;
    }
    *colon = 0;
    out->weight = weight;
    return true;
}

static bool read_loras(const cli_parser *p, request *r)
{
    int n = 0;
    for (; r->lora_files && r->lora_files[n]; n++) {
        if (n == MAX_LORAS) return cli_usage_error(p, "at most %d LoRAs", (int)MAX_LORAS), false;
        char *value = (char *)(uintptr_t)r->lora_files[n]; /* the recipe's, which owns it */
        if (!read_lora(p, value, &r->loras[n])) return false;
    }
    r->pipeline.n_loras = n;
    return true;
}

/* Options that follow are this one's. */
static void choose_control(request *r, control *c)
{
    r->parts[CONTROL_PART].target = c;
    r->parts[CONTROL_LIBRARY_PART].target = &c->o;
}

static int open_control(const cli_parser *p, request *r)
{
    if (r->n_controls == MAX_CONTROLS)
        return cli_usage_error(p, "at most %d ControlNets at once", (int)MAX_CONTROLS);
    control *c = &r->controls[r->n_controls++];
    choose_control(r, c);
    cn_options_preset(cn_control_option_rows, &c->o);
    return CLI_GO;
}

/* The last that has a network; NULL: none. */
static control *last_network(request *r)
{
    for (int k = r->n_controls - 1; k >= 0; k--)
        if (r->controls[k].net || r->controls[k].ip_adapter) return &r->controls[k];
    return NULL;
}

static bool is_image_prompt(const cli_setting *g)
{
    return strncmp(g->row->name, "image-prompt", strlen("image-prompt")) == 0;
}

/* An --ip-adapter that stands behind its own options goes before them. */
void generate_order(cli_settings *s)
{
    bool open = false;
    for (int i = 0; i < s->n; i++) {
        int k = i;
        if (opens_control(&s->list[i])) open = opens_adapter(&s->list[i]);
        if (open || !is_image_prompt(&s->list[i])) continue;
        while (k < s->n && !opens_control(&s->list[k])) k++;
        if (k == s->n || !opens_adapter(&s->list[k])) continue;
        const cli_setting adapter = s->list[k];
        memmove(s->list + i + 1, s->list + i, (size_t)(k - i) * sizeof *s->list);
        s->list[i] = adapter;
        open = true;
    }
}

static int check_control(const cli_parser *p, control *c, bool has_picture)
{
    const char *kind = c->o.preprocessor;
    const bool optional =
        has_picture && kind && (!strcmp(kind, "inpaint") || !strcmp(kind, "auto"));
    if (!c->image && c->ip_adapter)
        return cli_usage_error(p, "--ip-adapter %s needs --image-prompt", c->ip_adapter);
    if (!c->image && !optional && !c->net)
        return cli_usage_error(p, "--control-type %s needs --control-image", c->o.type);
    if (!c->image && !optional)
        return cli_usage_error(p, "--control-net %s needs --control-image", c->net);
    if (c->o.start >= c->o.end)
        return cli_usage_error(p, "--control-start %g is not before --control-end %g", c->o.start,
                               c->o.end);
    c->preprocessor_weights[0] = c->model;
    c->o.preprocessor_weights = c->preprocessor_weights;
    if (!c->factors) return CLI_GO;
    c->o.weights = c->weights;
    c->o.n_weights = read_factors(p, c);
    return c->o.n_weights ? CLI_GO : CLI_USAGE;
}

/* The names that a function of the library counts, "a, b, c". */
static const char *join_names(const char *(*name)(int i), char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; name(i) && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "", name(i));
    return out;
}

static int check_sampler(const cli_parser *p, const char *name)
{
    char list[256];
    if (cn_generate_sampler_named(name)) return CLI_GO;
    return cli_usage_error(p, "--sampling-method %s: there are %s", name,
                           join_names(cn_generate_sampler, list, sizeof list));
}

static int check_scheduler(const cli_parser *p, const char *name)
{
    char list[256];
    for (int i = 0; cn_generate_scheduler(i); i++)
        if (!strcmp(name, cn_generate_scheduler(i))) return CLI_GO;
    return cli_usage_error(p, "--scheduler %s: there are %s", name,
                           join_names(cn_generate_scheduler, list, sizeof list));
}

static int check_request(const cli_parser *p, request *r)
{
    int status = cli_check(p);
    for (int k = 0; status == CLI_GO && k < r->n_controls; k++)
        status = check_control(p, &r->controls[k], r->init != NULL);
    if (status != CLI_GO) return status;
    if (!strcmp(r->preview, "taesd") && !r->pipeline.preview_model)
        return cli_usage_error(p, "%s", "--preview taesd needs --preview-model");
    if (r->mask && !r->init)
        return cli_usage_error(p, "%s", "--mask needs --init-img, the picture it belongs to");
    if (r->generate.strength > 0 && !r->init)
        return cli_usage_error(p, "%s", "--strength needs --init-img");
    status = check_scheduler(p, r->generate.scheduler);
    return status == CLI_GO ? check_sampler(p, r->generate.sampler) : status;
}

int generate_read(cli_parser *p, request *r)
{
    cli_preset(p);
    for (int i = 0; i < p->settings.n; i++) {
        const cli_setting *g = &p->settings.list[i];
        const control *last = r->n_controls ? &r->controls[r->n_controls - 1] : NULL;
        control *network = last_network(r);
        const bool further_image = opens_image(g) && network && network->image;
        const bool further = (opens_condition(g) && last && last->o.type) || further_image;
        if (is_image_prompt(g) && !(network && network->ip_adapter))
            return cli_usage_error(p, "--%s needs --ip-adapter", g->row->name);
        const int status = opens_control(g) || further ? open_control(p, r) : CLI_GO;
        if (status != CLI_GO) return status;
        if (is_control(g) && !r->n_controls)
            return cli_usage_error(p, "%s",
                                   "--control-net comes before the options that belong to it");
        if (!cli_set(p, g)) return CLI_USAGE;
        if (further_image) choose_control(r, network);
    }
    if (!cli_set_lists(p)) return CLI_FAILED;
    if (!read_loras(p, r)) return CLI_USAGE;
    while (r->embeddings && r->embeddings[r->pipeline.n_embeddings]) r->pipeline.n_embeddings++;
    r->generate.clip_skip = r->clip_skip - 1;
    return check_request(p, r);
}
