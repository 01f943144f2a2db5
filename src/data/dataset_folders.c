/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_folders.c - kohya's twin folders: pictures with their captions beside them, and
 * conditions of the same stems in a second folder. The pictures may stand in folders 10_NAME of the
 * first, each ten times as often as those of a folder 1_NAME (what all have in common is left out);
 * their conditions then in a folder of that name in the second, or in the second itself.
 *
 * Index: where the picture's name stands in one string of names, the condition's behind it; the
 * number of the caption's ending (0: no caption, an empty prompt). Pairs are in the names' order.
 */
#include "data/dataset_layouts.h"
#include "io/listing.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CAPTION_BYTES = CN_DATASET_PROMPT_BYTES };

typedef struct folders {
    char conditions[CN_PATH_BYTES];
    char captions[2][32]; /* endings in the order they are looked for; "": no second */
    cn_str names;         /* picture, its condition, ..., each 0-terminated */
    int64_t without_caption;
    int64_t repeats; /* of the pairs at hand */
    int subsets;     /* folders 10_NAME; 0: the pictures stand in the first folder itself */
} folders;

/* --- opening ---------------------------------------------------------------------------------- */

/* The twin folders' usual names inside dir; false: none. */
static bool find_twins(const char *dir, char images[CN_PATH_BYTES], char conditions[CN_PATH_BYTES])
{
    static const char *const first[] = {"images", "image", "target", "targets"};
    static const char *const second[] = {"conditioning_images",
                                         "conditioning_image",
                                         "conditioning",
                                         "conditions",
                                         "source",
                                         "control"};
    bool one = false, two = false;
    for (size_t i = 0; i < CN_COUNT(first) && !one; i++) {
        snprintf(images, CN_PATH_BYTES, "%s/%s", dir, first[i]);
        one = cn_dir_exists(images);
    }
    for (size_t i = 0; i < CN_COUNT(second) && !two; i++) {
        snprintf(conditions, CN_PATH_BYTES, "%s/%s", dir, second[i]);
        two = cn_dir_exists(conditions);
    }
    return one && two;
}

static bool detect(const char *dir)
{
    char images[CN_PATH_BYTES], conditions[CN_PATH_BYTES];
    return find_twins(dir, images, conditions);
}

static cn_status caption_path(cn_ctx *ctx, const cn_dataset *d, const char *name,
                              const char *ending, char out[CN_PATH_BYTES])
{
    return cn_format(ctx, out, CN_PATH_BYTES, "%s/%.*s%s", d->dir, (int)cn_stem_length(name), name,
                     ending);
}

/* Names within the two folders. */
static cn_status add_pair(cn_ctx *ctx, cn_dataset *d, const char *target, const char *condition)
{
    folders *f = d->own;
    char path[CN_PATH_BYTES];
    uint64_t caption = 0;
    for (uint64_t k = 0; k < 2 && !caption; k++) {
        if (!f->captions[k][0]) continue;
        CN_TRY(caption_path(ctx, d, target, f->captions[k], path));
        if (cn_file_exists(path)) caption = k + 1;
    }
    f->without_caption += !caption;
    const uint64_t words[2] = {f->names.len, caption};
    cn_str_add(&f->names, target, strlen(target) + 1);
    cn_str_add(&f->names, condition, strlen(condition) + 1);
    if (f->names.failed) return cn_fail(ctx, CN_ENOMEM, "no memory for the names of pairs");
    for (int64_t k = 0; k < f->repeats; k++) CN_TRY(cn_dataset_add(ctx, d, words));
    return CN_OK;
}

/* "DIR/NAME: no condition of this stem in OTHER", and what else of the stem is there. */
static cn_status fail_alone(cn_ctx *ctx, const char *dir, const char *name, const char *what,
                            const char *other)
{
    char stem[512], near[512];
    snprintf(stem, sizeof stem, "%.*s", (int)CN_MIN(cn_stem_length(name), 500), name);
    CN_TRY(cn_dataset_find_stem(ctx, other, stem, near, sizeof near));
    return cn_fail(ctx, CN_EFORMAT, "%s/%s: no %s of this stem in %s%s%s%s", dir, name, what, other,
                   near[0] ? "; it holds " : "", near,
                   near[0] ? ", whose ending or spelling is another" : "");
}

/* A folder of pictures and the one of its conditions; `within`: where both lie in d's two folders,
 * "10_NAME/" or "". */
typedef struct twins {
    char target_dir[CN_PATH_BYTES], condition_dir[CN_PATH_BYTES];
    char target_within[300], condition_within[300];
    cn_listing targets, conditions;
} twins;

static cn_status add_twin(cn_ctx *ctx, cn_dataset *d, const twins *w, const char *target,
                          const char *condition)
{
    char t[CN_PATH_BYTES], c[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, t, sizeof t, "%s%s", w->target_within, target));
    CN_TRY(cn_format(ctx, c, sizeof c, "%s%s", w->condition_within, condition));
    return add_pair(ctx, d, t, c);
}

/* Both listings are sorted: one walk finds pairs, and what has no partner. shared: the conditions
 * are those of other folders' pictures too, so that one may be left over. */
static cn_status match(cn_ctx *ctx, cn_dataset *d, const twins *w, bool shared,
                       cn_dataset_faults *faults)
{
    const cn_listing *t = &w->targets, *c = &w->conditions;
    int64_t i = 0, k = 0;
    while (i < t->n || k < c->n) {
        cn_status s = CN_OK;
        const int order = i == t->n   ? 1
                          : k == c->n ? -1
                                      : cn_stem_compare(t->names[i], c->names[k]);
        if (order < 0) {
            s = fail_alone(ctx, w->target_dir, t->names[i], "condition", w->condition_dir);
            i++;
        } else if (order > 0) {
            if (!shared)
                s = fail_alone(ctx, w->condition_dir, c->names[k], "picture", w->target_dir);
            k++;
        } else if (i + 1 < t->n && cn_stem_compare(t->names[i], t->names[i + 1]) == 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: %s has the same stem", w->target_dir, t->names[i],
                        t->names[i + 1]);
            i++;
        } else if (k + 1 < c->n && cn_stem_compare(c->names[k], c->names[k + 1]) == 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: %s has the same stem", w->condition_dir,
                        c->names[k], c->names[k + 1]);
            k++;
        } else {
            s = add_twin(ctx, d, w, t->names[i++], c->names[k++]);
        }
        CN_TRY(cn_dataset_fault(ctx, faults, s));
    }
    return CN_OK;
}

/* The folder `name` of pictures ("": d's own) with its conditions. */
static cn_status read_twins(cn_ctx *ctx, cn_dataset *d, const char *name, cn_dataset_faults *faults)
{
    const cn_listing_rules pictures = {.endings = cn_picture_endings};
    const folders *f = d->own;
    bool shared = false;
    twins *w = cn_alloc0(ctx, sizeof *w);
    if (!w) return CN_ENOMEM;
    cn_status s =
        cn_format(ctx, w->target_within, sizeof w->target_within, "%s%s", name, name[0] ? "/" : "");
    if (s == CN_OK) s = cn_dataset_path(ctx, d->dir, name, w->target_dir);
    if (s == CN_OK) s = cn_dataset_path(ctx, f->conditions, name, w->condition_dir);
    if (s == CN_OK && name[0] && !cn_dir_exists(w->condition_dir)) {
        shared = true;
        s = cn_format(ctx, w->condition_dir, sizeof w->condition_dir, "%s", f->conditions);
    } else if (s == CN_OK) {
        memcpy(w->condition_within, w->target_within, sizeof w->condition_within);
    }
    if (!name[0] && s == CN_OK) { /* without the slash at the end */
        memcpy(w->target_dir, d->dir, sizeof w->target_dir);
        memcpy(w->condition_dir, f->conditions, sizeof w->condition_dir);
    }
    if (s == CN_OK) s = cn_listing_read(ctx, w->target_dir, &pictures, &w->targets);
    if (s == CN_OK) s = cn_listing_read(ctx, w->condition_dir, &pictures, &w->conditions);
    if (s == CN_OK) s = match(ctx, d, w, shared, faults);
    cn_listing_free(&w->targets);
    cn_listing_free(&w->conditions);
    cn_free(w);
    return s;
}

/* --- folders with repeats --------------------------------------------------------------------- */

enum { MAX_SUBSETS = 1000, MAX_REPEATS = 10000 };

typedef struct subset {
    char name[256];
    int64_t repeats;
} subset;

/* The number before "_NAME"; 0: it is no such folder. */
static int64_t repeats_of(const char *name)
{
    char *end = NULL;
    const long long n = strtoll(name, &end, 10);
    return end > name && *end == '_' && end[1] && n >= 1 && n <= MAX_REPEATS ? n : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const subset *)a)->name, ((const subset *)b)->name);
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* *out: an array to be freed, sorted by name; the repeats without what they have in common. */
static cn_status find_subsets(cn_ctx *ctx, const char *dir, subset **out, int *n)
{
    char path[CN_PATH_BYTES + 256];
    int64_t common = 0;
    subset *list = cn_alloc_array(ctx, MAX_SUBSETS, sizeof *list);
    if (!list) return CN_ENOMEM;
    *n = 0;
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    cn_status status = cn_dir_open(ctx, dir, &d);
    while (status == CN_OK && *n < MAX_SUBSETS && (status = cn_dir_next(d, &e)) == CN_OK && e) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!repeats_of(e->d_name) || !cn_dir_exists(path)) continue;
        subset *s = &list[(*n)++];
        snprintf(s->name, sizeof s->name, "%s", e->d_name);
        s->repeats = repeats_of(e->d_name);
        common = common_divisor(s->repeats, common);
    }
    cn_dir_close(d);
    if (status != CN_OK) {
        cn_free(list);
        return status;
    }
    for (int i = 0; i < *n; i++) list[i].repeats /= common;
    if (*n) qsort(list, (size_t)*n, sizeof *list, by_name);
    *out = list;
    return CN_OK;
}

static cn_status read_subsets(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *faults)
{
    folders *f = d->own;
    subset *list = NULL;
    CN_TRY(find_subsets(ctx, d->dir, &list, &f->subsets));
    cn_status s = CN_OK;
    for (int i = 0; s == CN_OK && i < f->subsets; i++) {
        f->repeats = list[i].repeats;
        s = read_twins(ctx, d, list[i].name, faults);
    }
    cn_free(list);
    return s;
}

static cn_status set_folders(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o, folders *f)
{
    char images[CN_PATH_BYTES];
    const char *ending = o->caption_extension;
    const bool dot = ending && ending[0] == '.';
    if (o->conditioning_dir && *o->conditioning_dir) {
        CN_TRY(cn_format(ctx, f->conditions, sizeof f->conditions, "%s", o->conditioning_dir));
        if (!cn_dir_exists(f->conditions))
            return cn_fail(ctx, CN_EIO, "%s: no such folder; the conditions of %s are expected",
                           f->conditions, d->dir);
    } else if (find_twins(d->dir, images, f->conditions)) {
        CN_TRY(cn_format(ctx, d->dir, sizeof d->dir, "%s", images));
    }
    CN_TRY(cn_format(ctx, f->captions[0], sizeof f->captions[0], "%s%s", ending && !dot ? "." : "",
                     ending ? ending : ".txt"));
    return ending ? CN_OK : cn_format(ctx, f->captions[1], sizeof f->captions[1], ".caption");
}

static cn_status open_folders(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                              cn_dataset_faults *faults)
{
    folders *f = cn_alloc0(ctx, sizeof *f);
    if (!f) return CN_ENOMEM;
    d->own = f;
    d->words = 2;
    CN_TRY(set_folders(ctx, d, o, f));
    CN_TRY(read_subsets(ctx, d, faults));
    f->repeats = 1;
    if (!f->subsets) CN_TRY(read_twins(ctx, d, "", faults));
    char where[48] = "";
    if (f->subsets) snprintf(where, sizeof where, " (%d folders with repeats)", f->subsets);
    snprintf(d->found, sizeof d->found,
             "%lld pairs (folders): pictures in %.400s%s, conditions of the same stems in %.400s, "
             "captions %s%s%s (%lld pictures have none)",
             (long long)d->n, d->dir, where, f->conditions, f->captions[0],
             f->captions[1][0] ? " or " : "", f->captions[1], (long long)f->without_caption);
    return CN_OK;
}

static void close_folders(cn_dataset *d)
{
    folders *f = d->own;
    if (!f) return;
    cn_str_free(&f->names);
    cn_free(f);
}

/* --- a pair ----------------------------------------------------------------------------------- */

/* A caption's text without the blanks around it. */
static cn_status read_caption(cn_ctx *ctx, const char *path, char **out)
{
    char *text = NULL;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, MAX_CAPTION_BYTES, &text, &n));
    if (memchr(text, 0, n)) {
        cn_free(text);
        return cn_fail(ctx, CN_EFORMAT, "%s: a zero byte in a caption", path);
    }
    while (n && strchr(" \t\r\n", text[n - 1])) text[--n] = 0;
    char *begin = text + strspn(text, " \t\r\n");
    memmove(text, begin, strlen(begin) + 1);
    *out = text;
    return CN_OK;
}

static cn_status get_files(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                           cn_dataset_item *out)
{
    const folders *f = d->own;
    const char *name = f->names.data + words[0];
    const uint64_t caption = words[1];
    char path[CN_PATH_BYTES];
    CN_TRY(cn_dataset_path(ctx, d->dir, name, path));
    if (!(out->where = cn_strdup(ctx, path))) return CN_ENOMEM;
    if (!(out->target.path = cn_strdup(ctx, path))) return CN_ENOMEM;
    CN_TRY(cn_dataset_path(ctx, f->conditions, name + strlen(name) + 1, path));
    if (!(out->condition.path = cn_strdup(ctx, path))) return CN_ENOMEM;
    if (!prompt || !caption) return CN_OK;
    CN_TRY(caption_path(ctx, d, name, f->captions[caption - 1], path));
    return read_caption(ctx, path, &out->prompt);
}

const cn_dataset_layout cn_dataset_folders = {.name = "folders",
                                              .expected = "pictures with --conditioning-data-dir",
                                              .detect = detect,
                                              .takes_conditions = true,
                                              .open = open_folders,
                                              .get = get_files,
                                              .close = close_folders};
