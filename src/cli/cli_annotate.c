/* SPDX-License-Identifier: Apache-2.0 */
/* cli_annotate.c - controlnet annotate KIND IN -o OUT: a picture, or every picture of a folder, to
 * its condition. Kinds and their options come from the library's table; cli_annotate_list.c prints
 * it. */
#include "cli/cli.h"
#include "cli/cli_annotate.h"
#include "cli/commands.h"

#include <string.h>
#include <sys/stat.h>

enum {
    OPT_HEAD,
    OPT_OUTPUT,
    OPT_RESOLUTION,
    OPT_DETECT,
    OPT_PIXEL_PERFECT,
    OPT_FIT,
    OPT_MODEL,
    OPT_RECURSIVE,
    OPT_RANDOM,
    OPT_SEED,
    OPT_THREADS,
    OPT_LIST,
    OPT_PALETTE,
    OPT_JSON,
    OPT_OWN
};
enum { MAX_OWN = 16, SETTING_BYTES = 256, MAX_WEIGHTS = 8 };

static const cli_option common[OPT_OWN] = {
    [OPT_HEAD] = {NULL, 0, NULL, "Options"},
    [OPT_OUTPUT] = {"output", 'o', "OUT", "PNG file; a folder when IN is one"},
    [OPT_RESOLUTION] = {"resolution", 0, "PX",
                        "bring the shorter side to PX first, both to multiples of 64"},
    [OPT_DETECT] = {"detect-resolution", 0, "PX",
                    "what the annotator sees is brought to PX, the condition keeps\n"
                    "its size; 0: it sees that (384 for depth and normals, 512 for\n"
                    "poses and segmentation, else 0)"},
    [OPT_PIXEL_PERFECT] = {"pixel-perfect", 0, "WxH",
                           "the resolution that suits a drawing of this size"},
    [OPT_FIT] = {"fit", 0, "FORM",
                 "of pixel-perfect: inner (default; the picture fills the\ndrawing) or outer "
                 "(it lies in it)"},
    [OPT_MODEL] = {"model", 'm', "WEIGHTS",
                   "the network's weights, for kinds that have one: files, or a\n"
                   "folder of files as published. May be given several times"},
    [OPT_RECURSIVE] = {"recursive", 'r', NULL, "folders in the folder too"},
    [OPT_RANDOM] =
        {"random-thresholds", 0, NULL,
         "canny: thresholds drawn for each picture, as for training;\nOUT/annotate.jsonl "
         "has them"},
    [OPT_SEED] = {"seed", 0, "S", "of what is drawn at random, with the picture's name (0)"},
    [OPT_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
    [OPT_LIST] = {"list", 0, NULL, "kinds, options, weight files and where they are published"},
    [OPT_PALETTE] = {"palette", 0, "NAME", "colours of ade20k's or coco's classes"},
    [OPT_JSON] = {"json", 0, NULL, "list, palette and the result as JSON lines"},
};

/* The first of the kinds that "hed | scribble_synthesis" names: its options are those of the
 * command. */
static void first_kind(const char *text, char out[64])
{
    text += strspn(text, " ");
    snprintf(out, 64, "%.*s", (int)strcspn(text, " |,"), text);
}

typedef struct request {
    const char *kind, *in, *out, *palette;
    cn_annotate_folder_options many;
    bool list_kinds, json;
    char settings[MAX_OWN][SETTING_BYTES];
    const char *list[MAX_OWN + 1], *weights[MAX_WEIGHTS + 1];
    char first[64]; /* the first kind's name */
    int n_settings, n_weights, threads;
} request;

/* A kind's own options behind the common ones. names and help lend their memory to the table. */
typedef struct own_options {
    cli_option all[OPT_OWN + 1 + MAX_OWN];
    char names[MAX_OWN][64], help[MAX_OWN][256];
    int n;
} own_options;

static void add_own(own_options *o, const char *kind)
{
    memcpy(o->all, common, sizeof common);
    o->n = OPT_OWN;
    cn_annotate_setting s;
    for (int i = 0; i < MAX_OWN && cn_annotate_setting_at(kind, i, &s); i++) {
        if (i == 0) o->all[o->n++] = (cli_option){NULL, 0, NULL, "Options of this kind"};
        snprintf(o->names[i], sizeof o->names[i], "%s", s.name);
        for (char *c = o->names[i]; *c; c++)
            if (*c == '_') *c = '-';
        if (s.is_switch)
            snprintf(o->help[i], sizeof o->help[i], "%s", s.help);
        else
            snprintf(o->help[i], sizeof o->help[i], "%s, %g to %g (%g)", s.help, s.min, s.max,
                     s.otherwise);
        o->all[o->n++] = (cli_option){o->names[i], 0, s.is_switch ? NULL : "N", o->help[i]};
    }
}

static int unknown_kind(const cli_parser *p, const char *kind)
{
    char list[1024] = "";
    for (int i = 0; cn_annotate_kind(i, NULL); i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", cn_annotate_kind(i, NULL));
    }
    return cli_usage_error(p, "unknown kind \"%s\": there are %s", kind, list);
}

static void print_kinds(FILE *f)
{
    const char *name, *title;
    for (int i = 0; (name = cn_annotate_kind(i, &title)); i++)
        fprintf(f, "  %-18s %s\n", name, title);
}

static bool parse_size(const cli_parser *p, int64_t *width, int64_t *height)
{
    long long w = 0, h = 0;
    int used = 0;
    const int n = sscanf(p->value, "%lldx%lld%n", &w, &h, &used);
    *width = w;
    *height = h;
    if (n == 2 && !p->value[used] && w >= 1 && h >= 1 && w <= 32768 && h <= 32768) return true;
    cli_usage_error(p, "--pixel-perfect %s: WIDTHxHEIGHT is expected, 512x768 say", p->value);
    return false;
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    static const char *const fits[] = {"inner", "outer", NULL};
    int64_t n = 0;
    switch (id) {
    case OPT_OUTPUT: r->out = p->value; return true;
    case OPT_RESOLUTION: return cli_int(p, id, 1, 32768, &r->many.annotate.resolution);
    case OPT_DETECT:
        if (!cli_int(p, id, 0, 32768, &r->many.annotate.detect_resolution)) return false;
        if (r->many.annotate.detect_resolution == 0) r->many.annotate.detect_resolution = -1;
        return true;
    case OPT_MODEL:
        if (r->n_weights < MAX_WEIGHTS) {
            r->weights[r->n_weights++] = p->value;
            return true;
        }
        cli_usage_error(p, "%s", "too many files of weights");
        return false;
    case OPT_PIXEL_PERFECT: return parse_size(p, &r->many.fit_width, &r->many.fit_height);
    case OPT_FIT:
        r->many.fit_outer = strcmp(p->value, "outer") == 0;
        return cli_one_of(p, id, fits);
    case OPT_RECURSIVE: r->many.recursive = true; return true;
    case OPT_RANDOM: r->many.random_thresholds = true; return true;
    case OPT_SEED: return cli_uint64(p, id, &r->many.seed);
    case OPT_LIST: r->list_kinds = true; return true;
    case OPT_PALETTE: r->palette = p->value; return true;
    case OPT_JSON: r->json = true; return true;
    case OPT_THREADS:
        if (!cli_int(p, id, 1, 1024, &n)) return false;
        r->threads = (int)n;
        return true;
    default: break;
    }
    if (r->n_settings == MAX_OWN) {
        cli_usage_error(p, "%s", "too many options");
        return false;
    }
    const cli_option *o = &p->options[id];
    double v = 0;
    if (o->arg) {
        cn_annotate_setting s;
        if (!cn_annotate_setting_at(r->first, id - OPT_OWN - 1, &s)) return false;
        if (!cli_number(p, id, s.min, s.max, &v)) return false;
    }
    snprintf(r->settings[r->n_settings], SETTING_BYTES, "%s=%.200s", o->name,
             o->arg ? p->value : "1");
    r->list[r->n_settings] = r->settings[r->n_settings];
    r->n_settings++;
    return true;
}

/* --- running ---------------------------------------------------------------------------------- */

typedef struct shown {
    cli_progress progress;
} shown;

static void show_count(void *user, int64_t done, int64_t total)
{
    shown *s = user;
    cli_progress_show(&s->progress, "pictures", (int)done, (int)total);
}

static void show_problem(void *user, const char *text)
{
    shown *s = user;
    cli_progress_end(&s->progress);
    cli_error("annotate", "%s", text);
}

static void print_result(const request *r, const cn_annotate_result *n)
{
    if (r->json)
        printf("{\"pictures\": %lld, \"made\": %lld, \"kept\": %lld, \"failed\": %lld}\n",
               (long long)n->pictures, (long long)n->made, (long long)n->kept,
               (long long)n->failed);
    else
        printf("%s: %lld made, %lld kept, %lld failed\n", r->out, (long long)n->made,
               (long long)n->kept, (long long)n->failed);
}

static int annotate(request *r)
{
    struct stat st;
    const bool folder = stat(r->in, &st) == 0 && S_ISDIR(st.st_mode);
    const bool one = !folder && strcmp(cn_annotate_find(r->first), "seg_coco") != 0;
    if (one && !cli_can_write("annotate", r->out)) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("annotate", r->threads);
    if (!ctx) return CLI_FAILED;
    shown s;
    cn_annotate_result result;
    cli_progress_init(&s.progress, false);
    r->many.progress = show_count;
    r->many.problem = show_problem;
    r->many.user = &s;
    const cn_status status = cn_annotate_folder(ctx, r->kind, &r->many, r->in, r->out, &result);
    cli_progress_end(&s.progress);
    if (!one && result.pictures) print_result(r, &result);
    const int exit_status = status == CN_OK ? CLI_DONE : cli_failed(ctx, "annotate");
    cli_context_destroy(ctx);
    return exit_status;
}

static int run(const cli_parser *p, request *r)
{
    char **rest;
    if (r->palette) return cli_list_palette(r->palette, r->json) ? CLI_DONE : CLI_FAILED;
    if (r->list_kinds) {
        cli_list_kinds(r->json);
        return CLI_DONE;
    }
    const int n = cli_positional(p, &rest);
    if (!r->kind || n != 2) return cli_usage_error(p, "%s", "KIND and IN are expected");
    if (!r->out) return cli_usage_error(p, "%s", "-o OUT is missing");
    r->in = rest[1];
    r->many.annotate.settings = r->list;
    r->many.annotate.weights = r->weights;
    return annotate(r);
}

int cmd_annotate(int argc, char **argv)
{
    own_options own;
    request r = {.kind = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL};
    cli_parser p = {.command = "annotate",
                    .synopsis =
                        "annotate KIND IN -o OUT [options]   (IN and OUT: files or folders)\n"
                        "       controlnet annotate --list | --palette NAME [--json]",
                    .options = own.all,
                    .argc = argc,
                    .argv = argv};
    first_kind(r.kind ? r.kind : "", r.first);
    add_own(&own, r.first);
    p.n_options = own.n;
    if (r.kind && !cn_annotate_find(r.first)) return unknown_kind(&p, r.first);
    int id;
    while ((id = cli_next(&p)) >= 0)
        if (!parse_one(&p, id, &r)) return CLI_USAGE;
    if (id == CLI_HELP && r.kind) {
        putchar('\n');
        cli_describe_kind(cn_annotate_find(r.first));
    } else if (id == CLI_HELP) {
        printf("\nKinds (controlnet annotate KIND --help lists their options; \"KIND | KIND\" puts "
               "them behind each other):\n");
        print_kinds(stdout);
    }
    return id == CLI_END ? run(&p, &r) : cli_exit_status(id);
}
