/* cli_annotate.c - controlnet annotate KIND IN -o OUT: a picture, or every picture of a folder, to its
 * condition. Kinds and their options come from the library's table. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { OPT_HEAD, OPT_OUTPUT, OPT_RESOLUTION, OPT_DETECT, OPT_MODEL, OPT_THREADS, OPT_OWN };
enum { MAX_OWN = 16, SETTING_BYTES = 256, MAX_WEIGHTS = 8 };

static const cli_option common[OPT_OWN] = {
    [OPT_HEAD] = {NULL, 0, NULL, "Options"},
    [OPT_OUTPUT] = {"output", 'o', "OUT", "PNG file, or folder when IN is one"},
    [OPT_RESOLUTION] = {"resolution", 0, "PX",
                        "bring the shorter side to PX first, both to multiples of 64"},
    [OPT_DETECT] = {"detect-resolution", 0, "PX",
                    "what the annotator sees is brought to PX, the condition keeps\n"
                    "its size; 0: it sees that (384 for depth and normals, 512 for\n"
                    "poses and segmentation, else 0)"},
    [OPT_MODEL] = {"model", 'm', "WEIGHTS",
                   "the network's weights, for kinds that have one: files, or a\n"
                   "folder of files as published. May be given several times"},
    [OPT_THREADS] = {"threads", 't', "N", "worker threads (one per core)"},
};

typedef struct request {
    const char *kind, *in, *out;
    cn_annotate_options options;
    char settings[MAX_OWN][SETTING_BYTES];
    const char *list[MAX_OWN + 1], *weights[MAX_WEIGHTS + 1];
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
        fprintf(f, "  %-12s %s\n", name, title);
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    int64_t n = 0;
    switch (id) {
    case OPT_OUTPUT: r->out = p->value; return true;
    case OPT_RESOLUTION: return cli_int(p, id, 1, 32768, &r->options.resolution);
    case OPT_DETECT:
        if (!cli_int(p, id, 0, 32768, &r->options.detect_resolution)) return false;
        if (r->options.detect_resolution == 0) r->options.detect_resolution = -1;
        return true;
    case OPT_MODEL:
        if (r->n_weights < MAX_WEIGHTS) {
            r->weights[r->n_weights++] = p->value;
            return true;
        }
        cli_usage_error(p, "%s", "too many files of weights");
        return false;
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
        if (!cn_annotate_setting_at(r->kind, id - OPT_OWN - 1, &s)) return false;
        if (!cli_number(p, id, s.min, s.max, &v)) return false;
    }
    snprintf(r->settings[r->n_settings], SETTING_BYTES, "%s=%.200s", o->name,
             o->arg ? p->value : "1");
    r->list[r->n_settings] = r->settings[r->n_settings];
    r->n_settings++;
    return true;
}

/* --- folders ---------------------------------------------------------------------------------------- */

static int is_picture(const struct dirent *e)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(e->d_name, '.');
    for (size_t i = 0; dot && e->d_name[0] != '.' && i < sizeof endings / sizeof endings[0]; i++)
        if (strcasecmp(dot, endings[i]) == 0) return 1;
    return 0;
}

static int annotate_entry(cn_ctx *ctx, cn_annotator *a, const request *r, const char *name)
{
    char in[4096], out[4096];
    int n = snprintf(in, sizeof in, "%s/%s", r->in, name);
    int m =
        snprintf(out, sizeof out, "%s/%.*s.png", r->out, (int)(strrchr(name, '.') - name), name);
    if (n < 0 || m < 0 || (size_t)n >= sizeof in || (size_t)m >= sizeof out)
        return cli_error("annotate", "%s/%s: the path is too long", r->in, name);
    return cn_annotator_run_file(a, in, out) == CN_OK ? CLI_DONE : cli_failed(ctx, "annotate");
}

/* Goes on behind a picture that fails, so that one bad file doesn't cost the rest. */
static int annotate_folder(cn_ctx *ctx, cn_annotator *a, const request *r)
{
    struct dirent **list = NULL;
    if (mkdir(r->out, 0777) != 0 && errno != EEXIST)
        return cli_error("annotate", "cannot make folder \"%s\": %s", r->out, strerror(errno));
    int n = scandir(r->in, &list, is_picture, alphasort);
    if (n < 0)
        return cli_error("annotate", "cannot read folder \"%s\": %s", r->in, strerror(errno));
    int status = CLI_DONE, failed = 0;
    cli_progress progress;
    cli_progress_init(&progress, false);
    for (int i = 0; i < n; i++) {
        if (annotate_entry(ctx, a, r, list[i]->d_name) != CLI_DONE) failed++;
        free(list[i]);
        cli_progress_show(&progress, "pictures", i + 1, n);
    }
    cli_progress_end(&progress);
    free(list);
    if (n == 0)
        status =
            cli_error("annotate", "\"%s\" holds no pictures (.png, .jpg, .jpeg, .webp)", r->in);
    if (failed) status = cli_error("annotate", "%d of %d pictures failed", failed, n);
    return status;
}

static int annotate(const request *r)
{
    struct stat st;
    bool folder = stat(r->in, &st) == 0 && S_ISDIR(st.st_mode);
    if (!folder && !cli_can_write("annotate", r->out)) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("annotate", r->threads);
    if (!ctx) return CLI_FAILED;
    int status = CLI_DONE;
    cn_annotator *a = NULL;
    if (cn_annotator_create(ctx, r->kind, &r->options, &a) != CN_OK)
        status = cli_failed(ctx, "annotate");
    else if (folder)
        status = annotate_folder(ctx, a, r);
    else if (cn_annotator_run_file(a, r->in, r->out) != CN_OK)
        status = cli_failed(ctx, "annotate");
    cn_annotator_destroy(a);
    cli_context_destroy(ctx);
    return status;
}

int cmd_annotate(int argc, char **argv)
{
    own_options own;
    request r = {.kind = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL};
    cli_parser p = {
        .command = "annotate",
        .synopsis = "annotate KIND IN -o OUT [options]   (IN and OUT: files or folders)",
        .options = own.all,
        .argc = argc,
        .argv = argv};
    add_own(&own, r.kind ? r.kind : "");
    p.n_options = own.n;
    if (r.kind && !cn_annotate_find(r.kind)) return unknown_kind(&p, r.kind);
    int id;
    char **rest;
    while ((id = cli_next(&p)) >= 0)
        if (!parse_one(&p, id, &r)) return CLI_USAGE;
    if (id == CLI_HELP && !r.kind) {
        printf("\nKinds (controlnet annotate KIND --help lists their options):\n");
        print_kinds(stdout);
    }
    if (id != CLI_END) return cli_exit_status(id);
    int n = cli_positional(&p, &rest);
    if (!r.kind || n != 2) return cli_usage_error(&p, "%s", "KIND and IN are expected");
    if (!r.out) return cli_usage_error(&p, "%s", "-o OUT is missing");
    r.in = rest[1];
    r.options.settings = r.list;
    r.options.weights = r.weights;
    return annotate(&r);
}
