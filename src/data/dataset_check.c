/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_check.c - cn_dataset_check: every pair looked over before anybody trains on it.
 *
 * A fault makes a pair unusable. A finding is what trains well and teaches the wrong thing: blank
 * or inverted conditions, exchanged channels, pairs twice. Pairs are decoded in parallel; every
 * count is a sum and every "first" the lowest number, so the report doesn't depend on the threads.
 */
#include "base/option.h"
#include "data/condition.h"
#include "data/dataset.h"
#include "data/leaks.h"
#include "image/phash.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LONG_PROMPT_WORDS = 75, COLOUR_PAIRS = 8 };

enum {
    BLANK,
    INVERTED,
    SAME_PICTURE,
    UNEQUAL,
    SMALL,
    DUPLICATE,
    EMPTY_PROMPT,
    LONG_PROMPT,
    NORMAL_CHANNELS,
    TARGET_CHANNELS,
    LEAK
};

static const struct {
    const char *name, *advice;
} kinds[CN_DATASET_FINDINGS] = {
    [BLANK] = {"blank_conditions", "of one colour: nothing to learn from; was the annotator's "
                                   "threshold too high?"},
    [INVERTED] = {"inverted_conditions",
                  "black lines on white; published ControlNets expect white on black"},
    [SAME_PICTURE] = {"conditions_equal_to_picture", "the condition is the picture itself"},
    [UNEQUAL] = {"other_proportions",
                 "condition and picture differ in proportions: crops won't fit each other"},
    [SMALL] = {"smaller_than_resolution", "these will be enlarged"},
    [DUPLICATE] = {"duplicate_pictures", "a picture that an earlier pair has"},
    [EMPTY_PROMPT] = {"empty_prompts", "pairs without a caption"},
    [LONG_PROMPT] = {"long_prompts",
                     "more than 75 words: the text encoder sees the beginning only"},
    [NORMAL_CHANNELS] =
        {"suspected_channel_order_of_conditions",
         "normal maps look towards the viewer in blue; red and blue seem exchanged"},
    [TARGET_CHANNELS] = {"suspected_channel_order_of_pictures",
                         "pictures called red are bluer than those called blue; red and blue seem "
                         "exchanged"},
    [LEAK] = {"leaks", "a picture looks like one of the set that is held against this one"},
};

typedef struct prints {
    uint64_t picture, prompt; /* hashes */
    uint64_t look;            /* a perceptual one, where another set is held against this one */
    bool seen;
} prints;

typedef struct survey {
    cn_ctx *ctx;
    const cn_dataset *d;
    const cn_dataset_options *o;
    cn_dataset_check_options check;
    cn_dataset_report *r;
    int64_t first[CN_DATASET_FINDINGS];
    prints *prints; /* [n] */
    double colour[2];
    int64_t colour_n[2]; /* of pictures whose prompts say red, blue: mean of red - blue */
    int64_t colour_first, done;
} survey;

static void find(survey *s, int kind, int64_t i)
{
    s->r->findings[kind].count++;
    if (s->first[kind] < 0 || i < s->first[kind]) s->first[kind] = i;
}

/* --- one pair --------------------------------------------------------------------------------- */

/* What is said of one pair without the lock. */
typedef struct opinion {
    bool finding[CN_DATASET_FINDINGS];
    uint64_t picture, prompt, look;
    int64_t width, height;
    int colour;
    double red_minus_blue;
} opinion;

static bool is_blank(const cn_image *image)
{
    const int64_t bytes = image->width * image->height * 3;
    for (int64_t i = 3; i < bytes; i++)
        if (image->rgb[i] != image->rgb[i - 3]) return false;
    return true;
}

static void means(const cn_image *image, double mean[3])
{
    const int64_t n = image->width * image->height;
    uint64_t sum[3] = {0};
    for (int64_t i = 0; i < 3 * n; i++) sum[i % 3] += image->rgb[i];
    for (int c = 0; c < 3; c++) mean[c] = (double)sum[c] / (double)n;
}

/* Black and white, and mostly white. */
static bool is_inverted(const cn_image *condition)
{
    double mean[3];
    const int64_t n = condition->width * condition->height;
    if (!cn_condition_black_and_white(condition->rgb, n)) return false;
    means(condition, mean);
    return mean[0] > 191;
}

/* Vectors that point away from the viewer in blue but at him in red: unit vectors in nearly every
 * pixel, the mean of red high and that of blue in the middle. */
static bool has_turned_normals(const cn_image *image)
{
    double mean[3];
    int64_t unit = 0;
    const int64_t n = image->width * image->height;
    for (int64_t i = 0; i < n; i++) {
        double length = 0;
        for (int c = 0; c < 3; c++) {
            const double v = (double)image->rgb[3 * i + c] / 127.5 - 1;
            length += v * v;
        }
        unit += length > 0.85 && length < 1.15;
    }
    if (unit < n * 9 / 10) return false;
    means(image, mean);
    return mean[0] > 180 && mean[2] > 64 && mean[2] < 160;
}

static bool has_word(const char *text, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = text; (p = strcasestr(p, word)); p += n) {
        const bool begins = p == text || !isalpha((unsigned char)p[-1]);
        if (begins && !isalpha((unsigned char)p[n])) return true;
    }
    return false;
}

/* Words and marks: what is certainly at least a token each. */
static int count_words(const char *text)
{
    int n = 0;
    for (bool inside = false; *text; text++) {
        const bool letter = isalnum((unsigned char)*text) || (*text & 0x80);
        n += letter ? !inside : ispunct((unsigned char)*text) != 0;
        inside = letter;
    }
    return n;
}

static uint64_t hash_image(const cn_image *image)
{
    const uint64_t size[2] = {(uint64_t)image->width, (uint64_t)image->height};
    return cn_hash64(image->rgb, (size_t)(image->width * image->height * 3)) ^
           cn_hash64(size, sizeof size);
}

static void judge(const survey *s, const char *prompt, const cn_image *c, const cn_image *t,
                  opinion *out)
{
    double mean[3];
    bool *f = out->finding;
    const int64_t across = c->width * t->height, up = c->height * t->width;
    const bool red = has_word(prompt, "red"), blue = has_word(prompt, "blue");
    out->width = t->width;
    out->height = t->height;
    out->picture = hash_image(t);
    out->prompt = cn_hash64(prompt, strlen(prompt));
    f[BLANK] = is_blank(c);
    f[INVERTED] = is_inverted(c);
    f[SAME_PICTURE] = hash_image(c) == out->picture;
    f[UNEQUAL] = llabs(across - up) * 50 > CN_MAX(across, up);
    f[SMALL] = CN_MIN(t->width, t->height) < s->check.resolution;
    f[EMPTY_PROMPT] = !prompt[0];
    f[LONG_PROMPT] = count_words(prompt) > LONG_PROMPT_WORDS;
    f[NORMAL_CHANNELS] = has_turned_normals(c);
    out->colour = red == blue ? -1 : blue;
    means(t, mean);
    out->red_minus_blue = mean[0] - mean[2];
}

static void note(survey *s, int64_t i, const opinion *o)
{
    cn_dataset_report *r = s->r;
    for (int k = 0; k < CN_DATASET_FINDINGS; k++)
        if (o->finding[k]) find(s, k, i);
    s->prints[i] = (prints){o->picture, o->prompt, o->look, true};
    r->looked_at++;
    r->min_width = r->min_width ? CN_MIN(r->min_width, o->width) : o->width;
    r->min_height = r->min_height ? CN_MIN(r->min_height, o->height) : o->height;
    r->max_width = CN_MAX(r->max_width, o->width);
    r->max_height = CN_MAX(r->max_height, o->height);
    if (o->colour < 0) return;
    s->colour[o->colour] += o->red_minus_blue;
    s->colour_n[o->colour]++;
    if (s->colour_first < 0 || i < s->colour_first) s->colour_first = i;
}

static cn_status look_at(const survey *s, cn_ctx *own, int64_t i, opinion *out)
{
    cn_image *condition = NULL, *target = NULL;
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(own, s->d, i, true, &item));
    cn_status status = cn_dataset_decode(own, &item.condition, &condition);
    if (status == CN_OK) status = cn_dataset_decode(own, &item.target, &target);
    if (status == CN_OK) judge(s, item.prompt, condition, target, out);
    if (status == CN_OK && s->check.against) status = cn_image_phash(own, target, &out->look);
    if (status != CN_OK) status = cn_fail_prefix(own, status, "%s", item.where);
    cn_image_destroy(condition);
    cn_image_destroy(target);
    cn_dataset_item_free(&item);
    return status;
}

/* --- all pairs -------------------------------------------------------------------------------- */

/* Decodes the pairs; CN_EFORMAT of one doesn't end the search for others. */
static cn_status look_at_all(survey *s)
{
    cn_status stopped = CN_OK;
    const int64_t n = s->d->n, most = s->check.max_pairs;
    const int64_t looks = most > 0 ? CN_MIN(most, n) : n;
#pragma omp parallel for schedule(dynamic, 8) num_threads(cn_threads(s->ctx))
    for (int64_t k = 0; k < looks; k++) {
        const int64_t i = (int64_t)((double)k * (double)n / (double)looks);
        opinion o = {0};
        if (cn_cancelled(s->ctx)) continue;
        /* a context of its own keeps this pair's message apart from the others' */
        cn_ctx *own = cn_ctx_fork(s->ctx, false);
        const cn_status status = own ? look_at(s, own, i, &o) : CN_ENOMEM;
#pragma omp critical(cn_dataset_check)
        {
            if (status == CN_OK) {
                note(s, i, &o);
            } else if (status == CN_ENOMEM) {
                stopped = cn_fail(s->ctx, CN_ENOMEM, "out of memory while looking at pictures");
            } else {
                s->r->problems++;
                if (s->o->problem) s->o->problem(s->o->problem_user, cn_error(own));
            }
            s->done++;
            if (s->check.progress) s->check.progress(s->check.user, s->done, looks);
        }
        cn_ctx_destroy(own);
    }
    if (stopped == CN_OK && cn_cancelled(s->ctx))
        return cn_fail(s->ctx, CN_ECANCELLED, "stopped before every picture was looked at");
    return stopped;
}

typedef struct ranked {
    uint64_t hash;
    int64_t item;
} ranked;

static int by_hash(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static cn_status compare_pairs(survey *s)
{
    const int64_t n = s->d->n;
    ranked *list = cn_alloc_array(s->ctx, (size_t)n, sizeof *list);
    if (!list) return CN_ENOMEM;
    for (int pass = 0; pass < 2; pass++) { /* pictures, prompts */
        int64_t k = 0;
        for (int64_t i = 0; i < n; i++)
            if (s->prints[i].seen)
                list[k++] = (ranked){pass ? s->prints[i].prompt : s->prints[i].picture, i};
        if (k) qsort(list, (size_t)k, sizeof *list, by_hash);
        for (int64_t i = 0; i < k; i++) {
            const bool again = i && list[i].hash == list[i - 1].hash;
            if (pass)
                s->r->distinct_prompts += !again;
            else if (again)
                find(s, DUPLICATE, list[i].item);
        }
    }
    cn_free(list);
    return CN_OK;
}

/* Which pictures look like one of another set. */
static cn_status compare_with_other(survey *s)
{
    cn_dataset_options o = *s->o;
    const size_t n = (size_t)s->d->n;
    if (!s->check.against) return CN_OK;
    o.dir = s->check.against;
    uint64_t *looks = cn_alloc_array(s->ctx, n, sizeof *looks);
    uint8_t *seen = cn_alloc(s->ctx, n), *leaks = cn_alloc0(s->ctx, n);
    for (size_t i = 0; looks && seen && i < n; i++) {
        looks[i] = s->prints[i].look;
        seen[i] = s->prints[i].seen;
    }
    const cn_status status =
        looks && seen && leaks ? cn_leaks_find(s->ctx, &o, looks, seen, s->d->n, leaks) : CN_ENOMEM;
    for (size_t i = 0; status == CN_OK && i < n; i++)
        if (leaks[i]) find(s, LEAK, (int64_t)i);
    cn_free(looks);
    cn_free(seen);
    cn_free(leaks);
    return status;
}

/* Pictures called red that are bluer than those called blue, over the whole set. */
static void compare_colours(survey *s)
{
    const int64_t red = s->colour_n[0], blue = s->colour_n[1];
    if (red < COLOUR_PAIRS || blue < COLOUR_PAIRS) return;
    if (s->colour[0] / (double)red + 1 >= s->colour[1] / (double)blue) return;
    s->r->findings[TARGET_CHANNELS].count = red + blue;
    s->first[TARGET_CHANNELS] = s->colour_first;
}

static cn_status name_findings(survey *s)
{
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) {
        char *first = s->r->findings[k].first;
        if (s->first[k] >= 0)
            CN_TRY(
                cn_dataset_where(s->ctx, s->d, s->first[k], first, sizeof s->r->findings[k].first));
    }
    return CN_OK;
}

static cn_status check_items(cn_ctx *ctx, const cn_dataset *d, const cn_dataset_options *o,
                             const cn_dataset_check_options *check, cn_dataset_report *r)
{
    survey s = {.ctx = ctx, .d = d, .o = o, .r = r, .colour_first = -1};
    if (check) s.check = *check;
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) s.first[k] = -1;
    r->layout = cn_dataset_layout_name(d);
    r->pairs = d->n;
    snprintf(r->found, sizeof r->found, "%s", d->found);
    s.prints = cn_alloc0(ctx, (size_t)d->n * sizeof *s.prints);
    cn_status status = s.prints ? look_at_all(&s) : CN_ENOMEM;
    if (status == CN_OK) status = compare_pairs(&s);
    if (status == CN_OK) status = compare_with_other(&s);
    if (status == CN_OK) {
        compare_colours(&s);
        status = name_findings(&s);
    }
    cn_free(s.prints);
    return status;
}

#define FIELD(member) CN_FIELD(cn_dataset_options, member)

const cn_option cn_dataset_option_rows[] = {
    {.help = "Options"},
    {"conditioning-data-dir", 0, "conditions of DIR's pictures", FIELD(conditioning_dir),
     .arg = "DIR"},
    {"image-column", 0, "as for train", FIELD(image_column), .arg = "NAME"},
    {"conditioning-image-column", 0, "as for train", FIELD(conditioning_image_column),
     .arg = "NAME"},
    {"caption-column", 0, "as for train", FIELD(caption_column), .arg = "NAME"},
    {"caption-extension", 0, "as for train", FIELD(caption_extension), .arg = ".EXT"},
    {0},
};

#undef FIELD
#define FIELD(member) CN_FIELD(cn_dataset_check_options, member)

const cn_option cn_dataset_check_option_rows[] = {
    {.help = "Options"},
    {"resolution", 0, "count pictures that are smaller", FIELD(resolution), 1, CN_IMAGE_MAX_SIDE,
     .arg = "PX", .unset = "none"},
    {"against", 0, "another data set: pictures that look like one of its are found", FIELD(against),
     .arg = "DIR"},
    {"limit", 'n', "decode N pairs, evenly spread", FIELD(max_pairs), 1, 1e12, .unset = "all"},
    {0},
};

cn_status cn_dataset_check(cn_ctx *ctx, const cn_dataset_options *options,
                           const cn_dataset_check_options *check, cn_dataset_report *out)
{
    cn_dataset *d = NULL;
    cn_dataset_report r = {0};
    cn_dataset_options o = *options;
    for (int k = 0; k < CN_DATASET_FINDINGS; k++)
        r.findings[k] = (cn_dataset_finding){.name = kinds[k].name, .advice = kinds[k].advice};
    if (check) CN_TRY(cn_options_check(ctx, cn_dataset_check_option_rows, check));
    o.skip_bad = true; /* faults of the list don't keep the pictures from being looked at */
    cn_status s = cn_dataset_open(ctx, &o, &d);
    if (s == CN_OK) {
        r.problems = d->skipped;
        s = check_items(ctx, d, &o, check, &r);
    } else {
        r.problems += s == CN_EFORMAT;
    }
    cn_dataset_close(d);
    if (s == CN_OK && r.problems)
        s = cn_fail(ctx, CN_EFORMAT, "%s: %lld of its pairs can't be used", o.dir,
                    (long long)r.problems);
    *out = r;
    return s;
}
