/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo_report.c - what the demo leaves: report.html, summary.json, sheet.png (drawings) and
 * steps.png (how control came). */
#include "cli/cli_demo.h"

#include "io/json_text.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NUMBERS = 20, TEXT = 160 };

static bool file_in(const demo *d, const char *name, char out[CN_PATH_BYTES])
{
    const int n = snprintf(out, CN_PATH_BYTES, "%s/%s", d->output_dir, name);
    return n > 0 && n < CN_PATH_BYTES;
}

/* --- report ----------------------------------------------------------------------------------- */

/* A row's pictures with their captions. */
typedef struct row_text {
    cn_report_picture pictures[4];
    char with[TEXT], without[TEXT];
} row_text;

static void fill_row(const demo_drawing *one, const char *condition, const char *original,
                     row_text *t, cn_report_row *row)
{
    snprintf(t->with, sizeof t->with, "with control · agreement %.2f", one->agreement_with);
    snprintf(t->without, sizeof t->without, "without · %.2f", one->agreement_without);
    t->pictures[0] = (cn_report_picture){one->condition, condition};
    t->pictures[1] = (cn_report_picture){one->with, t->with};
    t->pictures[2] = (cn_report_picture){one->without, t->without};
    t->pictures[3] = (cn_report_picture){one->original, original};
    *row = (cn_report_row){one->prompt, t->pictures, 4};
}

typedef struct number_list {
    cn_report_number list[MOST_NUMBERS];
    char values[MOST_NUMBERS][TEXT];
    int n;
} number_list;

static void number(number_list *l, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void number(number_list *l, const char *label, const char *fmt, ...)
{
    va_list args;
    if (l->n == MOST_NUMBERS) return;
    va_start(args, fmt);
    vsnprintf(l->values[l->n], TEXT, fmt, args);
    va_end(args);
    l->list[l->n] = (cn_report_number){label, l->values[l->n]};
    l->n++;
}

static void fill_tiles(const demo *d, number_list *l)
{
    const long seconds = (long)d->result.seconds;
    number(l, "agreement with control", "%.2f", d->agreement_with);
    number(l, "agreement without", "%.2f", d->agreement_without);
    number(l, "training steps", "%lld", (long long)d->result.steps);
    number(l, "training time", "%ld:%02ld", seconds / 60, seconds % 60);
    if (d->result.learned_at_step >= 0)
        number(l, "control learned at step", "%lld", (long long)d->result.learned_at_step);
}

static void fill_table(const demo *d, number_list *l)
{
    number(l, "Base model, locked", "%s", d->model);
    number(l, "Training pairs", "%lld scenes with their canny edges, %d × %d", (long long)d->pairs,
           DEMO_PX, DEMO_PX);
    number(l, "Pairs per step", "%lld", (long long)d->batch);
    number(l, "Learning rate", "%g, falling at the end (" DEMO_OPTIMIZER ")", d->learning_rate);
    number(l, "Seconds per step", "%.2f", d->step_seconds);
    number(l, "Training loss, mean of the last 100 steps", "%.4f", d->result.final_loss);
    if (d->result.has_agreement)
        number(l, "Last validation's agreement, with and without", "%.3f and %.3f",
               d->result.agreement_with_control, d->result.agreement_without_control);
    number(l, "Agreement on the held-out scenes, with and without", "%.3f and %.3f",
           d->agreement_with, d->agreement_without);
    number(l, "Held-out scenes measured", "%d", d->n_held);
    number(l, "A gain as large by luck alone", "p = %.2g (randomization test)", d->p_value);
    number(l, "Drawing", "DDIM, %d steps, guidance %g", DEMO_SAMPLING_STEPS, d->guidance_scale);
    number(l, "Seed", "%llu", (unsigned long long)d->seed);
}

/* What was reached, as it is. */
static const char *verdict(const demo *d)
{
    if (!demo_above_chance(d))
        return "It has not learned to, yet: drawings with control don't agree with their edges "
               "better than drawings without, beyond chance. More time may do (--minutes).";
    if (d->agreement_with < 2 * d->agreement_without)
        return "It has begun to: drawings keep to the lines they are given better than chance "
               "would have it, if not closely. More time makes them do (--minutes).";
    return "Drawings now keep to the lines they are given, and the base model hasn't changed.";
}

static void describe(const demo *d, char *out, size_t cap)
{
    snprintf(out, cap,
             "A small Stable Diffusion drew scenes from text alone. In %.1f minutes on this "
             "machine's processor a ControlNet beside it was trained to follow edges. %s\n\n"
             "Agreement is the F1 of edges found in the drawing against the edges asked for, "
             "from 0 to 1, one pixel of tolerance. Each pair of drawings begins with the same "
             "noise and the same words. If control changed nothing, a gain as large as that of "
             "these %d scenes would come with a probability of %.2g.",
             d->result.seconds / 60, verdict(d), d->n_held, d->p_value);
}

static bool ended_by_time(const demo *d)
{
    return !d->max_steps || d->result.steps < d->max_steps;
}

static void describe_training(const demo *d, char *out, size_t cap)
{
    char learned[TEXT] = "No validation has found control learned.";
    if (d->result.learned_at_step >= 0)
        snprintf(learned, sizeof learned,
                 "The validation at step %lld was the first to find control learned.",
                 (long long)d->result.learned_at_step);
    snprintf(out, cap,
             "The same held-out scenes drawn while training went on, from the same noise and words "
             "each time; at step 0 the new network adds nothing. Control comes suddenly, not bit "
             "by bit: the paper calls it sudden convergence.\n\n"
             "The learning rate fell in the last %.0f %% of training, which ended %s, after %lld "
             "steps. Every %d steps %d held-out scenes were drawn and measured. %s That means: a "
             "lower held-out loss with control than without, edges that agree at least 1.5 times "
             "as well, and a gain above three standard errors.",
             100 * DEMO_DECAY,
             ended_by_time(d) ? "when its time was used up" : "at the step asked for",
             (long long)d->result.steps, DEMO_EVERY, DEMO_CHECKED, learned);
}

/* --- drawings over the steps ------------------------------------------------------------------ */

enum { MOMENT_PICTURES = DEMO_MOMENTS + 3 };

typedef struct moment_rows {
    cn_report_picture pictures[DEMO_FOLLOWED][MOMENT_PICTURES];
    char captions[DEMO_MOMENTS][TEXT];
    cn_report_row rows[DEMO_FOLLOWED];
} moment_rows;

static int fill_moments(const demo_moments *m, moment_rows *t)
{
    if (!m->n_shown) return 0;
    for (int i = 0; i < m->n_shown; i++)
        snprintf(t->captions[i], TEXT, "step %lld", (long long)m->shown[i]);
    for (int k = 0; k < DEMO_FOLLOWED; k++) {
        cn_report_picture *p = t->pictures[k];
        *p++ = (cn_report_picture){m->condition[k], "edges"};
        *p++ = (cn_report_picture){m->without[k], "step 0"};
        for (int i = 0; i < m->n_shown; i++)
            *p++ = (cn_report_picture){m->drawn[k][i], t->captions[i]};
        *p++ = (cn_report_picture){m->original[k], "the scene itself"};
        t->rows[k] = (cn_report_row){NULL, t->pictures[k], (int)(p - t->pictures[k])};
    }
    return DEMO_FOLLOWED;
}

static cn_status write_page(demo *d, const char *path, const char *metrics)
{
    row_text text[DEMO_MOST];
    cn_report_row rows[DEMO_MOST];
    number_list tiles = {.n = 0}, table = {.n = 0};
    char title[TEXT], intro[1024], training[1024], scenes[512];
    cn_report_section sections[5];
    moment_rows moments;
    const int n_moments = fill_moments(&d->moments, &moments);
    const int shown = d->n_held < DEMO_SHOWN ? d->n_held : DEMO_SHOWN;
    const int first = d->n_held, photo = first + d->n_scribble;
    int n = 0;
    for (int i = 0; i < d->n_held; i++)
        fill_row(&d->drawings[i], "edges", "the scene itself", &text[i], &rows[i]);
    for (int i = first; i < photo; i++)
        fill_row(&d->drawings[i], "its lines at 128 pixels", "the scribble", &text[i], &rows[i]);
    for (int i = photo; i < photo + d->n_photo; i++)
        fill_row(&d->drawings[i], "its edges", "the photograph", &text[i], &rows[i]);
    fill_tiles(d, &tiles);
    fill_table(d, &table);
    snprintf(title, sizeof title, "A ControlNet, trained in %.0f minutes",
             d->result.seconds / 60 < 1 ? 1 : d->result.seconds / 60);
    describe(d, intro, sizeof intro);
    describe_training(d, training, sizeof training);
    snprintf(scenes, sizeof scenes,
             "The first %d of %d scenes that training never saw: drawn from edges and caption, "
             "and from the caption alone.",
             shown, d->n_held);
    sections[n++] = (cn_report_section){
        .title = "Scenes held out", .text = scenes, .rows = rows, .n_rows = shown};
    sections[n++] =
        (cn_report_section){.title = "A scribble by hand",
                            .text = "No annotator made these lines, and nothing like them was in "
                                    "the training data. The words choose the colours.",
                            .rows = rows + first,
                            .n_rows = d->n_scribble};
    if (d->n_photo)
        sections[n++] = (cn_report_section){
            .title = "Your photograph",
            .text = "The canny edges of the picture's middle square. The base model knows a few "
                    "solids on plain ground and nothing else, so it makes of the edges what it "
                    "can.",
            .rows = rows + photo,
            .n_rows = d->n_photo};
    sections[n++] = (cn_report_section){.title = "How control came",
                                        .text = training,
                                        .rows = moments.rows,
                                        .n_rows = n_moments,
                                        .metrics = metrics};
    sections[n++] =
        (cn_report_section){.title = "Numbers", .numbers = table.list, .n_numbers = table.n};
    return cn_report_write(d->ctx, &(cn_report_options){.path = path,
                                                        .title = title,
                                                        .text = intro,
                                                        .numbers = tiles.list,
                                                        .n_numbers = tiles.n,
                                                        .sections = sections,
                                                        .n_sections = n});
}

/* --- sheet ------------------------------------------------------------------------------------ */

/* Two drawings a line: condition, with control, without, original. */
enum { MARGIN = 16, GAP = 6, BETWEEN = 24, GROUP = 4 * DEMO_PX + 3 * GAP };

static cn_status place(demo *d, cn_image *sheet, const cn_image *picture, int64_t left, int64_t top)
{
    cn_image *small = NULL;
    const cn_status s = demo_square(d->ctx, picture, DEMO_PX, &small);
    if (s != CN_OK) return s;
    for (int64_t y = 0; y < DEMO_PX; y++)
        memcpy(cn_image_rgb(sheet) + ((top + y) * cn_image_width(sheet) + left) * 3,
               cn_image_rgb(small) + y * DEMO_PX * 3, (size_t)DEMO_PX * 3);
    cn_image_destroy(small);
    return CN_OK;
}

static cn_status place_all(demo *d, cn_image *sheet, const demo_drawing *const *list, int n)
{
    cn_status s = CN_OK;
    for (int i = 0; i < n; i++) {
        const cn_image *const pictures[] = {list[i]->condition, list[i]->with, list[i]->without,
                                            list[i]->original};
        for (int k = 0; k < 4 && s == CN_OK; k++)
            s = place(d, sheet, pictures[k],
                      MARGIN + i % 2 * (GROUP + BETWEEN) + k * (DEMO_PX + GAP),
                      MARGIN + i / 2 * (DEMO_PX + GAP));
    }
    return s;
}

static cn_status write_sheet(demo *d, const char *path)
{
    const demo_drawing *list[DEMO_MOST];
    const int extra = d->n_scribble + d->n_photo;
    cn_image *sheet = NULL;
    int n = 0;
    for (int i = 0; i < d->n_held && i < DEMO_SHOWN; i++) list[n++] = &d->drawings[i];
    for (int i = 0; i < extra; i++) list[n++] = &d->drawings[d->n_held + i];
    const int64_t lines = (n + 1) / 2;
    cn_status s = cn_image_create(d->ctx, 2 * MARGIN + 2 * GROUP + BETWEEN,
                                  2 * MARGIN + lines * DEMO_PX + (lines - 1) * GAP, &sheet);
    if (s != CN_OK) return s;
    memset(cn_image_rgb(sheet), 255, (size_t)(cn_image_width(sheet) * cn_image_height(sheet)) * 3);
    s = place_all(d, sheet, list, n);
    if (s == CN_OK) s = cn_image_save_png(d->ctx, path, sheet, NULL);
    cn_image_destroy(sheet);
    return s;
}

/* A line per scene that was followed: condition, step 0, the steps shown, the scene. */
static cn_status write_steps(demo *d, const char *path)
{
    const demo_moments *m = &d->moments;
    const int64_t columns = m->n_shown + 3, pitch = DEMO_PX + GAP;
    cn_image *sheet = NULL;
    if (!m->n_shown) return CN_OK;
    cn_status s = cn_image_create(d->ctx, 2 * MARGIN + columns * pitch - GAP,
                                  2 * MARGIN + DEMO_FOLLOWED * pitch - GAP, &sheet);
    if (s != CN_OK) return s;
    memset(cn_image_rgb(sheet), 255, (size_t)(cn_image_width(sheet) * cn_image_height(sheet)) * 3);
    for (int k = 0; k < DEMO_FOLLOWED && s == CN_OK; k++) {
        const int64_t top = MARGIN + k * pitch;
        s = place(d, sheet, m->condition[k], MARGIN, top);
        if (s == CN_OK) s = place(d, sheet, m->without[k], MARGIN + pitch, top);
        for (int i = 0; i < m->n_shown && s == CN_OK; i++)
            s = place(d, sheet, m->drawn[k][i], MARGIN + (i + 2) * pitch, top);
        if (s == CN_OK) s = place(d, sheet, m->original[k], MARGIN + (columns - 1) * pitch, top);
    }
    if (s == CN_OK) s = cn_image_save_png(d->ctx, path, sheet, NULL);
    cn_image_destroy(sheet);
    return s;
}

/* --- summary ---------------------------------------------------------------------------------- */

/* Of each held-out scene, with and without; NULL when memory is out. */
static json_t *agreements(const demo *d)
{
    json_t *list = json_array();
    for (int i = 0; i < d->n_held && list; i++) {
        json_t *pair =
            json_pack("[f, f]", d->drawings[i].agreement_with, d->drawings[i].agreement_without);
        if (json_array_append_new(list, pair) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *summary(const demo *d)
{
    return json_pack(
        "{s:f, s:f, s:o, s:f, s:b, s:b, s:I, s:f, s:f, s:f, s:I, s:s, s:i, s:I, s:I, s:f, s:f, "
        "s:I, s:s}",
        "agreement_with_control", d->agreement_with, "agreement_without_control",
        d->agreement_without, "agreements", agreements(d), "p_value", d->p_value, "above_chance",
        demo_above_chance(d), "at_least_twice", d->agreement_with >= 2 * d->agreement_without,
        "steps", (json_int_t)d->result.steps, "seconds", cli_now_s() - d->begun_s, "train_seconds",
        d->result.seconds, "step_seconds", d->step_seconds, "learned_at_step",
        (json_int_t)d->result.learned_at_step, "stopped_by", ended_by_time(d) ? "time" : "steps",
        "held_out", d->n_held, "pairs", (json_int_t)d->pairs, "train_batch_size",
        (json_int_t)d->batch, "learning_rate", d->learning_rate, "final_loss", d->result.final_loss,
        "seed", (json_int_t)d->seed, "model", d->model);
}

static int write_summary(const demo *d, const char *path)
{
    char tmp[CN_PATH_BYTES + 8];
    json_t *values = summary(d);
    char *text = cn_json_text(values, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(values);
    if (!text) return cli_error("demo", "cannot put together %s: a text isn't UTF-8", path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    FILE *f = fopen(tmp, "w");
    bool good = f && fprintf(f, "%s\n", text) > 0;
    if (f && fclose(f) != 0) good = false;
    free(text);
    if (good && rename(tmp, path) == 0) return CLI_DONE;
    const int why = errno;
    if (f) remove(tmp);
    return cli_error("demo", "cannot write \"%s\": %s", path, strerror(why));
}

int demo_write(demo *d)
{
    char report[CN_PATH_BYTES], sheet[CN_PATH_BYTES], steps[CN_PATH_BYTES], json[CN_PATH_BYTES],
        metrics[CN_PATH_BYTES + 16];
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", d->controlnet_dir);
    if (!file_in(d, "report.html", report) || !file_in(d, "sheet.png", sheet) ||
        !file_in(d, "steps.png", steps) || !file_in(d, "summary.json", json))
        return cli_error("demo", "\"%s\": the folder's name is too long", d->output_dir);
    if (write_page(d, report, metrics) != CN_OK || write_sheet(d, sheet) != CN_OK ||
        write_steps(d, steps) != CN_OK)
        return cli_failed(d->ctx, "demo");
    return write_summary(d, json);
}
