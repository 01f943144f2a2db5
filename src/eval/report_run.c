/* SPDX-License-Identifier: Apache-2.0 */
/* report_run.c - OUT/report.html, written anew at each validation: how the run goes, in one page.
 *
 * What earlier validations drew is read back from validation/step_N/, so a resumed run's page tells
 * the whole story.
 */
#include "eval/validate_internal.h"

#include "image/resize.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HELD_ROWS = 4, MAX_ROWS = 12, MAX_STEPS = 7, SHOWN_PX = 256, MAX_STEP_FOLDERS = 100000 };
enum { MAX_PICTURES = MAX_STEPS + 3, CAPTION = 64 };

/* A page while it is put together; pictures are its own. */
typedef struct page {
    cn_ctx *ctx;
    int64_t steps[MAX_STEPS];
    int n_steps;
    cn_image *images[MAX_ROWS][MAX_PICTURES];
    char captions[MAX_ROWS][MAX_PICTURES][CAPTION];
    cn_report_picture pictures[MAX_ROWS][MAX_PICTURES];
    cn_report_row rows[MAX_ROWS];
    char *prompts[MAX_ROWS];
    int n_rows;
    char text[2048];
} page;

static void page_free(page *p)
{
    for (int i = 0; i < MAX_ROWS; i++) {
        for (int k = 0; k < MAX_PICTURES; k++) cn_image_destroy(p->images[i][k]);
        cn_free(p->prompts[i]);
    }
    cn_free(p);
}

/* --- drawings over time ----------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Steps up to `last` whose drawings are there, MAX_STEPS of them evenly spread, first and last
 * included. */
static cn_status find_steps(page *p, const char *output_dir, int64_t last)
{
    char dir[CN_PATH_BYTES];
    int64_t n = 0, *all = cn_alloc_array(p->ctx, MAX_STEP_FOLDERS, sizeof *all);
    if (!all) return CN_ENOMEM;
    cn_dir *d = NULL;
    const struct dirent *e = NULL;
    cn_status s = cn_format(p->ctx, dir, sizeof dir, "%s/validation", output_dir);
    if (s == CN_OK && cn_dir_exists(dir)) s = cn_dir_open(p->ctx, dir, &d);
    while (s == CN_OK && d && n < MAX_STEP_FOLDERS && (s = cn_dir_next(d, &e)) == CN_OK && e) {
        char *end = NULL;
        if (strncmp(e->d_name, "step_", 5) != 0) continue;
        all[n] = strtoll(e->d_name + 5, &end, 10);
        n += !*end && all[n] > 0 && all[n] <= last;
    }
    cn_dir_close(d);
    qsort(all, (size_t)n, sizeof *all, by_number);
    p->n_steps = (int)CN_MIN(n, (int64_t)MAX_STEPS);
    for (int i = 0; i < p->n_steps; i++)
        p->steps[i] = all[p->n_steps > 1 ? i * (n - 1) / (p->n_steps - 1) : n - 1];
    cn_free(all);
    return s;
}

/* Takes a picture over (NULL: it is missing) as the row's next, no larger than SHOWN_PX. */
static cn_status add(page *p, int row, cn_image *image, const char *caption)
{
    cn_report_row *r = &p->rows[row];
    const int k = r->n_pictures;
    if (!image) return CN_OK;
    p->images[row][k] = image;
    if (CN_MAX(image->width, image->height) > SHOWN_PX) {
        const double shrink = (double)SHOWN_PX / (double)CN_MAX(image->width, image->height);
        cn_image *small = NULL;
        CN_TRY(cn_image_resize(p->ctx, image, CN_MAX(1, (int64_t)((double)image->width * shrink)),
                               CN_MAX(1, (int64_t)((double)image->height * shrink)), CN_FILTER_AREA,
                               &small));
        cn_image_destroy(image);
        p->images[row][k] = small;
    }
    snprintf(p->captions[row][k], CAPTION, "%s", caption);
    p->pictures[row][k] = (cn_report_picture){p->images[row][k], p->captions[row][k]};
    r->n_pictures++;
    return CN_OK;
}

static cn_status add_copy(page *p, int row, const cn_validator *v, const uint8_t *rgb,
                          int64_t drawing, const char *caption)
{
    cn_image *copy = NULL;
    const size_t bytes = (size_t)(v->o.width * v->o.height * 3);
    CN_TRY(cn_image_create(p->ctx, v->o.width, v->o.height, &copy));
    memcpy(copy->rgb, rgb + (size_t)drawing * bytes, bytes);
    return add(p, row, copy, caption);
}

/* The next row, of this drawing. */
static cn_status add_row(page *p, const cn_validator *v, int64_t drawing)
{
    const int row = p->n_rows;
    char dir[CN_PATH_BYTES], path[CN_PATH_BYTES], caption[CAPTION];
    const cn_validation_item *d = &v->o.items[drawing];
    cn_dataset_item item;
    p->rows[row].pictures = p->pictures[row];
    CN_TRY(cn_dataset_get(p->ctx, d->data, d->item, true, &item));
    p->prompts[row] = cn_strdup(p->ctx, item.prompt);
    cn_dataset_item_free(&item);
    p->rows[row].caption = p->prompts[row];
    CN_TRY(add_copy(p, row, v, v->condition, drawing, "condition"));
    for (int i = 0; i < p->n_steps; i++) {
        cn_image *drawn = NULL;
        CN_TRY(cn_format(p->ctx, dir, sizeof dir, "%s/validation/step_%lld", v->o.train->output_dir,
                         (long long)p->steps[i]));
        CN_TRY(cn_validator_path(v, dir, drawing, path));
        if (!cn_file_exists(path)) continue;
        CN_TRY(cn_image_load(p->ctx, path, &drawn));
        snprintf(caption, sizeof caption, "step %lld", (long long)p->steps[i]);
        CN_TRY(add(p, row, drawn, caption));
    }
    CN_TRY(add_copy(p, row, v, v->without, drawing, "without control"));
    if (drawing < v->o.n_held)
        CN_TRY(add_copy(p, row, v, v->target, drawing, "the picture it came from"));
    p->n_rows = row + 1;
    return CN_OK;
}

/* --- numbers ---------------------------------------------------------------------------------- */

typedef struct table {
    cn_report_number list[CN_MAX_RESIDUALS + 16];
    char labels[CN_MAX_RESIDUALS + 16][CAPTION], values[CN_MAX_RESIDUALS + 16][CAPTION];
    int n;
} table;

static void number(table *t, const char *label, const char *format, ...) CN_PRINTF(3, 4);

static void number(table *t, const char *label, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    snprintf(t->labels[t->n], CAPTION, "%s", label);
    vsnprintf(t->values[t->n], CAPTION, format, args);
    va_end(args);
    t->list[t->n] = (cn_report_number){t->labels[t->n], t->values[t->n]};
    t->n++;
}

static void add_tiles(table *tiles, int64_t end_step, const cn_train_validation *r)
{
    char label[CAPTION];
    number(tiles, "of the run's steps taken", "%lld of %lld", (long long)r->step,
           (long long)end_step);
    number(tiles, "held-out loss with control, without", "%.4f, %.4f", r->loss_with,
           r->loss_without);
    if (r->has_agreement) {
        snprintf(label, sizeof label, "%s with control, without", r->agreement_with.measure);
        number(tiles, label, "%.2f, %.2f", r->agreement_with.score, r->agreement_without.score);
    }
    if (r->has_agreement && r->agreement_with.unit) {
        snprintf(label, sizeof label, "%s with control, without", r->agreement_with.unit);
        number(tiles, label, "%.1f, %.1f", r->agreement_with.error, r->agreement_without.error);
    }
    if (r->learned_at_step >= 0)
        number(tiles, "control was learned at step", "%lld", (long long)r->learned_at_step);
    else
        number(tiles, "control", "not learned yet");
}

static void add_bands(table *out, int timesteps, const cn_train_validation *r)
{
    char label[CAPTION];
    for (int k = 0; k < CN_TRAIN_BANDS; k++) {
        snprintf(label, sizeof label, "timesteps %d to %d", k * timesteps / CN_TRAIN_BANDS,
                 (k + 1) * timesteps / CN_TRAIN_BANDS - 1);
        number(out, label, "%.4f with control, %.4f without", r->band_with[k], r->band_without[k]);
    }
}

static void add_blocks(table *out, const double *rms, int64_t n)
{
    char label[CAPTION];
    for (int64_t i = 0; i < n; i++) {
        snprintf(label, sizeof label, i + 1 < n ? "encoder output %lld" : "middle block",
                 (long long)i);
        number(out, label, "%.3g", rms[i]);
    }
}

/* --- the page --------------------------------------------------------------------------------- */

static cn_status write_page(page *p, cn_validator *v, const cn_train_validation *r,
                            const double *rms, int64_t n_rms, table *tables)
{
    char path[CN_PATH_BYTES], metrics[CN_PATH_BYTES];
    table *tiles = &tables[0], *bands = &tables[1], *blocks = &tables[2];
    CN_TRY(cn_format(p->ctx, path, sizeof path, "%s/report.html", v->o.train->output_dir));
    CN_TRY(cn_format(p->ctx, metrics, sizeof metrics, "%s/metrics.jsonl", v->o.train->output_dir));
    if (!v->curves) CN_TRY(cn_curves_open(p->ctx, metrics, &v->curves));
    add_tiles(tiles, v->end_step, r);
    add_bands(bands, v->o.timesteps, r);
    add_blocks(blocks, rms, n_rms);
    snprintf(p->text, sizeof p->text, "Learned means: %s.%s%s", r->rule, r->advice ? "\n\n" : "",
             r->advice ? r->advice : "");
    const cn_report_section sections[] = {
        {.title = "Drawings over time",
         .text = "On fixed seeds, from the same noise and words each time. Those whose picture is "
                 "shown are held out from training.",
         .rows = p->rows,
         .n_rows = p->n_rows},
        {.title = "Curves", .metrics = metrics},
        {.title = "Held-out loss by timestep",
         .text =
             "Squared error at fixed noise. Control matters where much noise hides the picture.",
         .numbers = bands->list,
         .n_numbers = bands->n},
        {.title = "Zero convolutions",
         .text = "Root mean square of each one's weights, which began at 0.",
         .numbers = blocks->list,
         .n_numbers = blocks->n}};
    return cn_report_write_curves(p->ctx,
                                  &(cn_report_options){.path = path,
                                                       .title = "A ControlNet in training",
                                                       .text = p->text,
                                                       .numbers = tiles->list,
                                                       .n_numbers = tiles->n,
                                                       .sections = sections,
                                                       .n_sections = CN_COUNT(sections)},
                                  v->curves);
}

cn_status cn_validator_report(cn_validator *v, const cn_train_validation *r, const double *rms,
                              int64_t n_rms)
{
    page *p = cn_alloc0(v->ctx, sizeof *p);
    table *tables = cn_alloc0(v->ctx, 3 * sizeof *tables);
    cn_status s = p && tables ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        p->ctx = v->ctx;
        s = find_steps(p, v->o.train->output_dir, r->step);
        for (int64_t i = 0; i < v->o.n_items && p->n_rows < MAX_ROWS && s == CN_OK; i++)
            if (i < MAX_HELD_ROWS || i >= v->o.n_held) s = add_row(p, v, i);
        if (s == CN_OK) s = write_page(p, v, r, rms, n_rms, tables);
    }
    if (p) page_free(p);
    cn_free(tables);
    return s;
}
