/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo.c - controlnet demo: scenes, a canny ControlNet trained on them, drawings, a report.
 *
 * Training runs until its time is used up, so that the demo ends at about the same time on any
 * machine; what it reached by then is what the report says. Only the output folder is written to,
 * and only when it is empty or an earlier demo's.
 */
#include "cli/cli_demo.h"
#include "cli/commands.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char marker[] = ".controlnet-demo";

#define FIELD(member) CN_FIELD(demo, member)

static const cn_option rows[] = {
    {.help = "Files"},
    {"model", 'm', "base model", FIELD(model), .preset = "models/tiny-sd", .arg = "MODEL"},
    {"output-dir", 'o', "gets report.html and all the rest", FIELD(output_dir),
     .preset = "out/demo", .arg = "OUT"},
    {"photo", 0, "draw from this photograph's edges too", FIELD(photo), .arg = "FILE"},
    {"photo-prompt", 0, "what to draw there, in the scenes' words", FIELD(photo_prompt)},
    {"scribble", 0, "white lines on black to draw from", FIELD(scribble),
     .preset = "docs/demo-scribble.png", .arg = "FILE"},
    {.help = "Run"},
    {"minutes", 0, "training stops after this long", FIELD(minutes), 0.01, 1e4, .preset = "7"},
    {"steps", 0, "and after N steps, if they come first", FIELD(max_steps), 1, 1e6,
     .unset = "as many as the time allows"},
    {"pairs", 0, "scenes to train on", FIELD(pairs), 16, 1e6, .preset = "1500"},
    {"batch", 'b', "pairs per step", FIELD(batch), 1, 4096, .preset = "8"},
    {"learning-rate", 0, "falling at the end", FIELD(learning_rate), 1e-9, 1, .preset = "3e-3"},
    {"cfg-scale", 0, "of drawings", FIELD(guidance_scale), 1, 30, .preset = "5"},
    {"seed", 0, "of scenes, training and drawings", FIELD(seed), .preset = "7"},
    CLI_THREADS(demo),
    {0},
};

/* --- the folder ------------------------------------------------------------------------------- */

static bool join(char out[CN_PATH_BYTES], const char *dir, const char *name)
{
    const int n = snprintf(out, CN_PATH_BYTES, "%s/%s", dir, name);
    return n > 0 && n < CN_PATH_BYTES;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st;
    (void)type;
    (void)place;
    return remove(path);
}

static bool remove_tree(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT;
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0;
}

static bool make_folders(const char *path)
{
    char part[CN_PATH_BYTES];
    const size_t n = strlen(path);
    if (!n || n >= sizeof part) {
        errno = n ? ENAMETOOLONG : ENOENT;
        return false;
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i]) continue;
        part[i] = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST) return false;
        part[i] = path[i];
    }
    return true;
}

/* An earlier demo's folder, or one with nothing in it. */
static bool is_ours(const char *dir)
{
    char path[CN_PATH_BYTES];
    if (join(path, dir, marker) && access(path, F_OK) == 0) return true;
    DIR *list = opendir(dir);
    if (!list) return false;
    bool empty = true;
    for (struct dirent *e; (e = readdir(list));)
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(list);
    return empty;
}

static int start_over(demo *d)
{
    static const char *const made[] = {"scenes",       "held-out",  "controlnet", "report.html",
                                       "summary.json", "sheet.png", "steps.png"};
    char path[CN_PATH_BYTES];
    if (!make_folders(d->output_dir))
        return cli_error("demo", "cannot make folder \"%s\": %s", d->output_dir, strerror(errno));
    if (!is_ours(d->output_dir))
        return cli_error("demo",
                         "\"%s\" holds files that no demo made; an empty or new folder is "
                         "expected (--output-dir)",
                         d->output_dir);
    if (!join(d->scenes_dir, d->output_dir, "scenes") ||
        !join(d->held_dir, d->output_dir, "held-out") ||
        !join(d->controlnet_dir, d->output_dir, "controlnet") || !join(path, d->output_dir, marker))
        return cli_error("demo", "\"%s\": the folder's name is too long", d->output_dir);
    FILE *f = fopen(path, "w");
    if (!f || fclose(f) != 0)
        return cli_error("demo", "cannot write \"%s\": %s", path, strerror(errno));
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!join(path, d->output_dir, made[i]) || !remove_tree(path))
            return cli_error("demo", "cannot remove \"%s\": %s", path, strerror(errno));
    return CLI_DONE;
}

/* Everything that can be wrong with what was given is found before the long part. */
static cn_status check_inputs(demo *d)
{
    cn_pipeline *p = NULL;
    cn_status s = cn_pipeline_create(d->ctx, &(cn_pipeline_options){.model = d->model}, &p);
    cn_pipeline_destroy(p);
    if (s == CN_OK) s = cn_image_load(d->ctx, d->scribble, &d->scribble_image);
    if (s == CN_OK && d->photo) s = cn_image_load(d->ctx, d->photo, &d->photo_image);
    return s;
}

/* --- scenes ----------------------------------------------------------------------------------- */

static void show_scenes(void *user, int64_t done, int64_t total)
{
    cli_progress_show(user, "scenes", (int)done, (int)total);
}

/* The held-out scenes follow the others in the same sequence. */
static cn_status make_scenes(demo *d)
{
    cn_scenes_options o = {.output_dir = d->scenes_dir,
                           .count = d->pairs,
                           .seed = d->seed,
                           .size_px = DEMO_PX,
                           .condition = "canny " DEMO_LOW " " DEMO_HIGH,
                           .progress = show_scenes,
                           .user = &d->progress};
    cn_status s = cn_dataset_scenes(d->ctx, &o);
    cli_progress_end(&d->progress);
    if (s != CN_OK) return s;
    o.output_dir = d->held_dir;
    o.start = d->pairs;
    o.count = DEMO_HELD;
    o.progress = NULL;
    return cn_dataset_scenes(d->ctx, &o);
}

/* --- training --------------------------------------------------------------------------------- */

static void end_line(demo *d)
{
    cli_progress_end(&d->progress);
    if (d->line_open) fputc('\n', stderr);
    d->line_open = false;
}

static void show_step(demo *d, const cn_train_progress *p, double now)
{
    const bool terminal = d->progress.terminal;
    const long gone = (long)(now - d->train_begun_s), all = (long)(d->minutes * 60);
    if (!terminal && d->line_open) return;
    if (!terminal && now - d->shown_s < 10 && p->done > 1) return;
    d->shown_s = now;
    fprintf(stderr, "%straining  step %lld  loss %.4f  %.2f s/step  %ld:%02ld of %ld:%02ld%s",
            terminal ? "\r" : "", (long long)p->done, p->loss_mean, p->step_seconds, gone / 60,
            gone % 60, all / 60, all % 60, terminal ? "\x1b[K" : "\n");
    d->line_open = terminal;
    fflush(stderr);
}

static void on_progress(void *user, const cn_train_progress *p)
{
    demo *d = user;
    const double now = cli_now_s();
    if (strcmp(p->stage, "train") != 0) {
        /* A validation draws twice, with control and once without: a count of its own each. */
        if (d->line_open || p->done < d->progress.done) end_line(d);
        cli_progress_show(&d->progress, p->stage, (int)p->done, (int)p->total);
        return;
    }
    cli_progress_end(&d->progress);
    d->step_seconds = p->step_seconds;
    show_step(d, p, now);
}

static void on_validated(void *user, const cn_train_validation *v)
{
    demo *d = user;
    end_line(d);
    fprintf(stderr, "step %lld: agreement %.3f with control, %.3f without\n", (long long)v->step,
            v->agreement_with.score, v->agreement_without.score);
    if (d->moments_status == CN_OK) d->moments_status = demo_moments_add(d, v->step);
    if (v->learned && v->learned_at_step == v->step)
        fprintf(stderr, "control learned at step %lld\n", (long long)v->step);
}

static cn_status train(demo *d)
{
    const cn_train_callbacks callbacks = {
        .user = d, .progress = on_progress, .validated = on_validated};
    cn_train_options o;
    cn_train_options_default(&o);
    o.model = d->model;
    o.train_data_dir = d->scenes_dir;
    o.validation_data_dir = d->held_dir;
    o.output_dir = d->controlnet_dir;
    o.resolution = DEMO_PX;
    o.train_batch_size = d->batch;
    o.max_train_steps = d->max_steps;
    o.max_train_minutes = d->minutes;
    o.learning_rate = d->learning_rate;
    o.optimizer_type = DEMO_OPTIMIZER;
    o.lr_scheduler = "warmup_stable_decay";
    o.lr_warmup_steps = 0;
    o.lr_decay_steps = DEMO_DECAY;
    o.seed = d->seed;
    o.checkpointing_steps = 0;
    o.validation_steps = DEMO_EVERY;
    o.validation_count = DEMO_CHECKED;
    o.validation_sampling_steps = DEMO_SAMPLING_STEPS;
    o.validation_guidance_scale = d->guidance_scale;
    d->train_begun_s = cli_now_s();
    const cn_status s = cn_train(d->ctx, &o, &callbacks, &d->result);
    end_line(d);
    if (s == CN_OK)
        fprintf(stderr, "trained %lld steps in %.0f s\n", (long long)d->result.steps,
                d->result.seconds);
    return s;
}

/* --- the command ------------------------------------------------------------------------------ */

static void print_verdict(const demo *d)
{
    printf("agreement with the condition: %.3f with control, %.3f without (p = %.2g)\n"
           "%lld steps, %.0f s in all\nreport: %s/report.html\n",
           d->agreement_with, d->agreement_without, d->p_value, (long long)d->result.steps,
           cli_now_s() - d->begun_s, d->output_dir);
}

static int run(demo *d)
{
    if (check_inputs(d) != CN_OK) return cli_failed(d->ctx, "demo");
    int status = start_over(d);
    if (status != CLI_DONE) return status;
    fprintf(stderr, "1 of 4: scenes to learn from\n");
    if (make_scenes(d) != CN_OK) return cli_failed(d->ctx, "demo");
    fprintf(stderr, "2 of 4: a canny ControlNet, %g minutes at most\n", d->minutes);
    if (train(d) != CN_OK) return cli_failed(d->ctx, "demo");
    fprintf(stderr, "3 of 4: drawings with and without it\n");
    cn_status s = d->moments_status == CN_OK ? demo_moments_load(d) : d->moments_status;
    if (s == CN_OK) s = demo_draw(d);
    end_line(d);
    if (s != CN_OK) return cli_failed(d->ctx, "demo");
    fprintf(stderr, "4 of 4: report\n");
    if ((status = demo_write(d)) != CLI_DONE) return status;
    print_verdict(d);
    if (demo_above_chance(d)) return CLI_DONE;
    return cli_error("demo",
                     "agreement with control (%.3f) isn't above that without (%.3f) at p < %g (p = "
                     "%.2g): control was not learned in %lld steps; more time may do (--minutes "
                     "%g)",
                     d->agreement_with, d->agreement_without, DEMO_CHANCE, d->p_value,
                     (long long)d->result.steps, 2 * d->minutes);
}

static int with_context(demo *d)
{
    d->ctx = cli_context_create("demo", d->threads);
    if (!d->ctx) return CLI_FAILED;
    cli_progress_init(&d->progress, false);
    const int status = run(d);
    demo_drawings_destroy(d);
    demo_moments_destroy(&d->moments);
    cn_image_destroy(d->scribble_image);
    cn_image_destroy(d->photo_image);
    cli_context_destroy(d->ctx);
    return status;
}

int cmd_demo(int argc, char **argv)
{
    static const char about[] =
        "Trains a ControlNet on edges of procedural scenes and draws with it. Exit status 1 when\n"
        "drawings with control don't agree with their edges better than without, beyond chance\n"
        "(p < 0.01, exact randomization test over the held-out scenes).";
    demo d = {.begun_s = cli_now_s()};
    const cli_part parts[] = {{rows, &d}, {0}};
    cli_parser p = {.command = "demo",
                    .synopsis = "demo [options]",
                    .about = about,
                    .parts = parts,
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) status = with_context(&d);
    cli_parser_free(&p);
    return status;
}
