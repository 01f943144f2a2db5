/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_stats.c - controlnet.h's cn_dataset_stats: what a data set is like, in numbers and as a
 * page. Pairs are decoded in parallel; every number is a sum of integers, a least or a greatest, so
 * it doesn't depend on the threads. */
#include "base/option.h"
#include "data/condition.h"
#include "data/dataset.h"
#include "data/words.h"
#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { TOP_WORDS = 20, SHEET_PAIRS = 24, SHEET_PX = 160, MILLI = 1000 };

/* A quantity's least, greatest and sum. */
typedef struct range {
    int64_t n, sum, least, greatest;
} range;

typedef struct gathered {
    cn_ctx *ctx;
    const cn_dataset *d;
    const cn_dataset_options *o;
    cn_dataset_stats_options how;
    cn_words *words;
    int64_t looked_at, unreadable, empty, black_and_white, done;
    int64_t portrait, square, landscape;
    range width, height, caption_words, caption_characters;
    range colour[3], condition; /* means of a picture, in thousandths of a step of 255 */
    range density;              /* share of white, in thousandths, of black and white ones */
} gathered;

static void add(range *r, int64_t v)
{
    r->least = r->n ? CN_MIN(r->least, v) : v;
    r->greatest = r->n ? CN_MAX(r->greatest, v) : v;
    r->sum += v;
    r->n++;
}

static double mean(const range *r, double unit)
{
    return r->n ? (double)r->sum / (double)r->n / unit : 0;
}

/* --- a pair ----------------------------------------------------------------------------------- */

typedef struct measured {
    int64_t width, height, colour[3], condition, density; /* -1: not black and white */
} measured;

static int64_t channel_mean(const cn_image *image, int channel)
{
    const int64_t n = image->width * image->height;
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += image->rgb[3 * i + channel];
    return sum * MILLI / n;
}

static int64_t white_share(const cn_image *image)
{
    const int64_t n = image->width * image->height;
    int64_t white = 0;
    if (!cn_condition_black_and_white(image->rgb, n)) return -1;
    for (int64_t i = 0; i < n; i++) white += image->rgb[3 * i] >= 128;
    return white * MILLI / n;
}

static cn_status measure(const gathered *g, cn_ctx *ctx, int64_t i, cn_dataset_item *item,
                         measured *out)
{
    cn_image *condition = NULL, *target = NULL;
    CN_TRY(cn_dataset_get(ctx, g->d, i, true, item));
    CN_TRY(cn_dataset_load(ctx, g->d, i, 0, 0, &condition, &target));
    out->width = target->width;
    out->height = target->height;
    for (int c = 0; c < 3; c++) out->colour[c] = channel_mean(target, c);
    out->condition = channel_mean(condition, 1);
    out->density = white_share(condition);
    cn_image_destroy(condition);
    cn_image_destroy(target);
    return CN_OK;
}

static int64_t characters(const char *text)
{
    int64_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void note(gathered *g, const measured *m, const char *prompt)
{
    g->looked_at++;
    add(&g->width, m->width);
    add(&g->height, m->height);
    g->portrait += m->height > m->width;
    g->square += m->height == m->width;
    g->landscape += m->height < m->width;
    for (int c = 0; c < 3; c++) add(&g->colour[c], m->colour[c]);
    add(&g->condition, m->condition);
    if (m->density >= 0) add(&g->density, m->density);
    g->empty += !*prompt;
    add(&g->caption_words, cn_words_add(g->words, prompt));
    add(&g->caption_characters, characters(prompt));
}

static int64_t looks(const gathered *g)
{
    return g->how.max_pairs ? CN_MIN(g->how.max_pairs, g->d->n) : g->d->n;
}

static int64_t spread(const gathered *g, int64_t k, int64_t of)
{
    return (int64_t)((double)k * (double)g->d->n / (double)of);
}

static cn_status look_at_all(gathered *g)
{
    const int64_t n = looks(g);
    bool memory = true;
#pragma omp parallel for schedule(dynamic, 8) num_threads(cn_threads(g->ctx))
    for (int64_t k = 0; k < n; k++) {
        if (cn_cancelled(g->ctx)) continue;
        measured m = {0};
        cn_dataset_item item = {0};
        cn_ctx *own = cn_ctx_fork(g->ctx, false);
        const cn_status s = own ? measure(g, own, spread(g, k, n), &item, &m) : CN_ENOMEM;
#pragma omp critical(cn_dataset_stats)
        {
            if (s == CN_OK) note(g, &m, item.prompt);
            g->unreadable += s != CN_OK;
            memory &= s != CN_ENOMEM;
            if (s != CN_OK && own && g->o->problem)
                g->o->problem(g->o->problem_user, cn_error(own));
            g->done++;
            if (g->how.progress) g->how.progress(g->how.user, g->done, n);
        }
        cn_dataset_item_free(&item);
        cn_ctx_destroy(own);
    }
    if (cn_cancelled(g->ctx)) return cn_fail(g->ctx, CN_ECANCELLED, "stopped");
    return memory ? CN_OK : cn_fail(g->ctx, CN_ENOMEM, "out of memory while looking at pictures");
}

/* --- in words --------------------------------------------------------------------------------- */

static json_t *range_json(const range *r, double unit)
{
    return json_pack("{s:f,s:f,s:f}", "least", (double)r->least / unit, "mean", mean(r, unit),
                     "greatest", (double)r->greatest / unit);
}

static json_t *to_json(const gathered *g, const cn_word_count *top, int n)
{
    json_t *words = json_object();
    for (int i = 0; words && i < n; i++)
        json_object_set_new(words, top[i].word, json_integer((json_int_t)top[i].n));
    return json_pack(
        "{s:s,s:s,s:I,s:I,s:I,s:o,s:o,s:I,s:I,s:I,s:[f,f,f],s:o,s:I,s:o,s:I,s:o,s:o,s:I,s:o}",
        "layout", cn_dataset_layout_name(g->d), "found", g->d->found, "pairs", (json_int_t)g->d->n,
        "looked_at", (json_int_t)g->looked_at, "unreadable", (json_int_t)g->unreadable, "width",
        range_json(&g->width, 1), "height", range_json(&g->height, 1), "portrait",
        (json_int_t)g->portrait, "square", (json_int_t)g->square, "landscape",
        (json_int_t)g->landscape, "mean_rgb", mean(&g->colour[0], MILLI),
        mean(&g->colour[1], MILLI), mean(&g->colour[2], MILLI), "condition_mean",
        range_json(&g->condition, MILLI), "black_and_white_conditions", (json_int_t)g->density.n,
        "white_share", range_json(&g->density, MILLI), "empty_captions", (json_int_t)g->empty,
        "caption_words", range_json(&g->caption_words, 1), "caption_characters",
        range_json(&g->caption_characters, 1), "distinct_words",
        (json_int_t)cn_words_distinct(g->words), "frequent_words", words);
}

static void add_line(cn_str *out, const char *what, const range *r, double unit)
{
    cn_str_addf(out, "%-30s %8.4g to %.4g, mean %.4g\n", what, (double)r->least / unit,
                (double)r->greatest / unit, mean(r, unit));
}

static void to_lines(const gathered *g, const cn_word_count *top, int n, cn_str *out)
{
    cn_str_addf(out, "%s\n%lld pairs looked at, %lld can't be read\n", g->d->found,
                (long long)g->looked_at, (long long)g->unreadable);
    add_line(out, "width of pictures", &g->width, 1);
    add_line(out, "height of pictures", &g->height, 1);
    cn_str_addf(out, "%-30s %8lld portrait, %lld square, %lld landscape\n", "proportions",
                (long long)g->portrait, (long long)g->square, (long long)g->landscape);
    cn_str_addf(out, "%-30s %8.4g %.4g %.4g\n", "mean red, green, blue", mean(&g->colour[0], MILLI),
                mean(&g->colour[1], MILLI), mean(&g->colour[2], MILLI));
    add_line(out, "mean of conditions", &g->condition, MILLI);
    if (g->density.n) add_line(out, "white in black and white ones", &g->density, MILLI);
    add_line(out, "words of captions", &g->caption_words, 1);
    add_line(out, "characters of captions", &g->caption_characters, 1);
    cn_str_addf(out, "%-30s %8lld\n", "empty captions", (long long)g->empty);
    cn_str_addf(out, "%-30s %8lld:", "different words", (long long)cn_words_distinct(g->words));
    for (int i = 0; i < n; i++)
        cn_str_addf(out, "%s %s %lld", i ? "," : "", top[i].word, (long long)top[i].n);
    cn_str_adds(out, "\n");
}

/* --- the page --------------------------------------------------------------------------------- */

typedef struct sheet {
    cn_image *images[2 * SHEET_PAIRS];
    cn_report_picture pictures[2 * SHEET_PAIRS];
    cn_report_row rows[SHEET_PAIRS];
    char *captions[SHEET_PAIRS];
    int n;
} sheet;

static cn_status load_small(cn_ctx *ctx, const cn_dataset *d, int64_t i, cn_image *out[2])
{
    cn_image *full[2] = {NULL, NULL};
    CN_TRY(cn_dataset_load(ctx, d, i, 0, 0, &full[0], &full[1]));
    cn_status s = CN_OK;
    for (int k = 0; s == CN_OK && k < 2; k++) {
        const int64_t w = full[k]->width, h = full[k]->height, side = CN_MAX(w, h);
        s = cn_image_resize(ctx, full[k], CN_MAX(1, w * SHEET_PX / side),
                            CN_MAX(1, h * SHEET_PX / side), CN_FILTER_AREA, &out[k]);
    }
    cn_image_destroy(full[0]);
    cn_image_destroy(full[1]);
    return s;
}

/* Pairs spread evenly over all; those that can't be read leave no gap. */
static cn_status fill_sheet(const gathered *g, sheet *t)
{
    const int64_t want = CN_MIN(g->d->n, SHEET_PAIRS);
    for (int64_t k = 0; k < want; k++) {
        cn_dataset_item item = {0};
        cn_image **images = &t->images[2 * t->n];
        const int64_t i = spread(g, k, want);
        cn_status s = cn_dataset_get(g->ctx, g->d, i, true, &item);
        if (s == CN_OK) s = load_small(g->ctx, g->d, i, images);
        if (s == CN_OK)
            s = (t->captions[t->n] = cn_strdup(g->ctx, item.prompt)) ? CN_OK : CN_ENOMEM;
        cn_dataset_item_free(&item);
        if (s == CN_ENOMEM) return s;
        if (s != CN_OK) continue;
        for (int j = 0; j < 2; j++)
            t->pictures[2 * t->n + j] = (cn_report_picture){images[j], j ? "picture" : "condition"};
        t->rows[t->n] = (cn_report_row){t->captions[t->n], &t->pictures[2 * t->n], 2};
        t->n++;
    }
    return CN_OK;
}

static cn_status write_page(const gathered *g, const char *lines)
{
    char pairs[32], sizes[64], words[32];
    sheet *t = cn_alloc0(g->ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    cn_status s = fill_sheet(g, t);
    snprintf(pairs, sizeof pairs, "%lld", (long long)g->d->n);
    snprintf(sizes, sizeof sizes, "%.0f x %.0f", mean(&g->width, 1), mean(&g->height, 1));
    snprintf(words, sizeof words, "%.1f", mean(&g->caption_words, 1));
    const cn_report_number numbers[] = {
        {"pairs", pairs}, {"mean size", sizes}, {"words a caption", words}};
    const cn_report_section sections[] = {
        {.title = "Numbers", .text = lines},
        {.title = "Contact sheet", .rows = t->rows, .n_rows = t->n}};
    if (s == CN_OK)
        s = cn_report_write(g->ctx, &(cn_report_options){.path = g->how.report,
                                                         .title = g->d->dir,
                                                         .numbers = numbers,
                                                         .n_numbers = 3,
                                                         .sections = sections,
                                                         .n_sections = 2});
    for (int i = 0; i < SHEET_PAIRS; i++) {
        cn_image_destroy(t->images[2 * i]);
        cn_image_destroy(t->images[2 * i + 1]);
        cn_free(t->captions[i]);
    }
    cn_free(t);
    return s;
}

/* --- the whole -------------------------------------------------------------------------------- */

#define FIELD(member) CN_FIELD(cn_dataset_stats_options, member)

const cn_option cn_dataset_stats_option_rows[] = {
    {.help = "Options"},
    {"limit", 'n', "look at N pairs, evenly spread", FIELD(max_pairs), 1, 1e12, .unset = "all"},
    {"report", 0, "a page of it, with a contact sheet", FIELD(report), .arg = "FILE.html"},
    {0},
};

/* A paragraph each, since a page has no lines. */
static cn_status write_report(const gathered *g, const cn_word_count *top, int n)
{
    cn_str lines = {0}, paragraphs = {0};
    to_lines(g, top, n, &lines);
    for (const char *at = lines.data; at && *at; at++)
        cn_str_adds(&paragraphs, *at == '\n' ? "\n\n" : (const char[]){*at, 0});
    const cn_status s = lines.failed || paragraphs.failed
                            ? cn_fail(g->ctx, CN_ENOMEM, "no memory for a report")
                            : write_page(g, paragraphs.data);
    cn_str_free(&lines);
    cn_str_free(&paragraphs);
    return s;
}

static cn_status tell(const gathered *g, bool json, char **text)
{
    cn_word_count top[TOP_WORDS];
    const int n = cn_words_top(g->words, top, TOP_WORDS);
    cn_str out = {0};
    if (g->how.report) CN_TRY(write_report(g, top, n));
    if (json) {
        json_t *object = to_json(g, top, n);
        char *dumped = cn_json_text(object, JSON_REAL_PRECISION(6));
        if (dumped) cn_str_addf(&out, "%s\n", dumped);
        free(dumped);
        json_decref(object);
    } else {
        to_lines(g, top, n, &out);
    }
    if (!out.failed && out.data) {
        *text = out.data;
        return CN_OK;
    }
    cn_str_free(&out);
    return cn_fail(g->ctx, CN_ENOMEM, "no memory for the numbers of a data set");
}

cn_status cn_dataset_stats(cn_ctx *ctx, const cn_dataset_options *options,
                           const cn_dataset_stats_options *stats, bool json, char **text)
{
    cn_dataset *d = NULL;
    cn_dataset_options o = *options;
    gathered g = {.ctx = ctx, .o = &o};
    if (stats) g.how = *stats;
    CN_TRY(cn_options_check(ctx, cn_dataset_stats_option_rows, &g.how));
    o.skip_bad = true;
    CN_TRY(cn_dataset_open(ctx, &o, &d));
    g.d = d;
    cn_status s = cn_words_create(ctx, &g.words);
    if (s == CN_OK) s = look_at_all(&g);
    if (s == CN_OK) s = tell(&g, json, text);
    cn_words_destroy(g.words);
    cn_dataset_close(d);
    return s;
}
