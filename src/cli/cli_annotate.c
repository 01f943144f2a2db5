/* SPDX-License-Identifier: Apache-2.0 */
/* cli_annotate.c - controlnet annotate KIND IN -o OUT: a picture, or every picture of a folder, to
 * its condition. Kinds and their options come from the library's table; cli_annotate_list.c prints
 * it. */
#include "cli/cli.h"
#include "cli/cli_annotate.h"
#include "cli/commands.h"

#include <string.h>
#include <sys/stat.h>

enum { MAX_OWN = 16, SETTING_BYTES = 256 };

/* A kind's own options. names and presets lend their memory to the rows; values are read to be
 * checked, since the library takes settings as texts. */
typedef struct own_options {
    cn_option rows[1 + MAX_OWN + 1];
    char names[MAX_OWN][64], presets[MAX_OWN][16];
    double values[MAX_OWN];
    bool switches[MAX_OWN];
    char settings[MAX_OWN][SETTING_BYTES];
    const char *list[MAX_OWN + 1];
} own_options;

typedef struct request {
    const char *kind, *in, *out, *palette, *fit_size;
    cn_annotate_folder_options many;
    bool list_kinds, json;
    char first[64]; /* the first kind's name */
    int threads;
    int64_t max_pixels;
    own_options own;
} request;

#define FIELD(member) CN_FIELD(request, member)

static const cn_option rows[] = {
    {.help = "Options"},
    {"output", 'o', "PNG file; a folder when IN is one", FIELD(out), .arg = "OUT"},
    {"model", 'm',
     "the network's weights, for kinds that have one: files, or a folder of files as published. "
     "May be given several times",
     FIELD(many.annotate.weights), .arg = "WEIGHTS"},
    {"pixel-perfect", 0, "the resolution that suits a drawing of this size", FIELD(fit_size),
     .arg = "WxH"},
    {"list", 0, "kinds, options, weight files and where they are published", FIELD(list_kinds)},
    {"palette", 0, "colours of ade20k's or coco's classes", FIELD(palette), .arg = "NAME"},
    CLI_JSON(request, "list, palette and the result as JSON lines"),
    CLI_THREADS(request),
    CLI_MAX_PIXELS(request),
    {0},
};

/* The first of the kinds that "hed | scribble_synthesis" names: its options are those of the
 * command. */
static void first_kind(const char *text, char out[64])
{
    text += strspn(text, " ");
    snprintf(out, 64, "%.*s", (int)strcspn(text, " |,"), text);
}

static void add_own(own_options *o, const char *kind)
{
    cn_annotate_setting s;
    if (cn_annotate_setting_at(kind, 0, &s)) o->rows[0].help = "Options of this kind";
    for (int i = 0; i < MAX_OWN && cn_annotate_setting_at(kind, i, &s); i++) {
        snprintf(o->names[i], sizeof o->names[i], "%s", s.name);
        for (char *c = o->names[i]; *c; c++)
            if (*c == '_') *c = '-';
        cn_option *row = &o->rows[1 + i];
        *row = (cn_option){.name = o->names[i], .help = s.help, .min = s.min, .max = s.max};
        snprintf(o->presets[i], sizeof o->presets[i], "%g", s.otherwise);
        row->preset = s.is_switch ? NULL : o->presets[i];
        row->type = s.is_switch ? CN_FIELD_ON : CN_FIELD_NUMBER;
        row->offset = s.is_switch ? offsetof(own_options, switches) + (size_t)i * sizeof(bool)
                                  : offsetof(own_options, values) + (size_t)i * sizeof(double);
    }
}

/* The kind's own options that were given, as "name=value". */
static int read_kind_options(const cli_parser *p, own_options *o)
{
    int n = 0;
    for (int i = 0; i < p->settings.n; i++) {
        const cli_setting *g = &p->settings.list[i];
        if (g->part->target != o) continue;
        if (n == MAX_OWN) return cli_usage_error(p, "%s", "too many options");
        snprintf(o->settings[n], SETTING_BYTES, "%s=%.150s", g->row->name,
                 g->value ? g->value : "1");
        o->list[n] = o->settings[n];
        n++;
    }
    return CLI_GO;
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

static int read_size(const cli_parser *p, const char *text, int64_t *width, int64_t *height)
{
    long long w = 0, h = 0;
    int used = 0;
    const int n = sscanf(text, "%lldx%lld%n", &w, &h, &used);
    *width = w;
    *height = h;
    if (n == 2 && !text[used] && w >= 1 && h >= 1 && w <= 32768 && h <= 32768) return CLI_GO;
    return cli_usage_error(p, "--pixel-perfect %s: WIDTHxHEIGHT is expected, 512x768 say", text);
}

/* What isn't simply a field's value. */
static int settle(const cli_parser *p, request *r)
{
    cn_annotate_folder_options *o = &r->many;
    int status = read_kind_options(p, &r->own);
    if (status == CLI_GO && r->fit_size)
        status = read_size(p, r->fit_size, &o->fit_width, &o->fit_height);
    o->annotate.settings = r->own.list;
    if (!o->annotate.detect_resolution && cli_find_setting(p, "detect-resolution"))
        o->annotate.detect_resolution = -1;
    return status;
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
    if (one) r->out = cli_output_path(r->out);
    if (one && !cli_can_write("annotate", r->out)) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("annotate", r->threads);
    if (!ctx) return CLI_FAILED;
    cn_ctx_set_max_pixels(ctx, r->max_pixels);
    cli_context_end_within_second();
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
    if (r->palette) return cli_list_palette(r->palette, r->json) ? CLI_DONE : CLI_FAILED;
    if (r->list_kinds) {
        cli_list_kinds(r->json);
        return CLI_DONE;
    }
    if (!r->kind || p->n_words != 2) return cli_usage_error(p, "%s", p->words_wanted);
    if (!r->out) return cli_usage_error(p, "%s", "-o OUT is missing");
    r->in = p->words[1];
    return annotate(r);
}

static void describe_kinds(const request *r)
{
    putchar('\n');
    if (r->kind) {
        cli_describe_kind(cn_annotate_find(r->first));
        return;
    }
    printf("Kinds (controlnet annotate KIND --help lists their options; \"KIND | KIND\" puts them "
           "behind each other):\n");
    print_kinds(stdout);
}

int cmd_annotate(int argc, char **argv)
{
    request r = {.kind = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL};
    const cli_part parts[] = {
        {rows, &r}, {cn_annotate_option_rows, &r.many}, {r.own.rows, &r.own}, {0}};
    cli_parser p = {.command = "annotate",
                    .synopsis =
                        "annotate KIND IN -o OUT [options]   (IN and OUT: files or folders)\n"
                        "       controlnet annotate --list | --palette NAME [--json]",
                    .parts = parts,
                    .max_words = 2,
                    .words_wanted = "KIND and IN are expected",
                    .argc = argc,
                    .argv = argv};
    first_kind(r.kind ? r.kind : "", r.first);
    if (r.kind && !cn_annotate_find(r.first)) return unknown_kind(&p, r.first);
    add_own(&r.own, r.first);
    int status = cli_read(&p);
    if (status == CLI_DONE) describe_kinds(&r);
    if (status == CLI_GO) status = settle(&p, &r);
    if (status == CLI_GO) status = run(&p, &r);
    cli_parser_free(&p);
    return status;
}
