/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_folders.c - kohya's twin folders: pictures with their captions beside them, and
 * conditions of the same stems in a second folder.
 *
 * Index: where the picture's name stands in one string of names, the condition's ending behind it;
 * the number of the caption's ending (0: no caption, an empty prompt). Pairs are in the names'
 * order.
 */
#include "data/dataset_layouts.h"
#include "io/listing.h"

#include <string.h>

enum { MAX_CAPTION_BYTES = CN_DATASET_PROMPT_BYTES };

typedef struct folders {
    char conditions[CN_DATASET_PATH_BYTES];
    char captions[2][32]; /* endings in the order they are looked for; "": no second */
    cn_str names;         /* picture, ending of its condition, ..., each 0-terminated */
    int64_t without_caption;
} folders;

/* --- opening ---------------------------------------------------------------------------------- */

/* The twin folders' usual names inside dir; false: none. */
static bool find_twins(const char *dir, char images[CN_DATASET_PATH_BYTES],
                       char conditions[CN_DATASET_PATH_BYTES])
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
        snprintf(images, CN_DATASET_PATH_BYTES, "%s/%s", dir, first[i]);
        one = cn_dir_exists(images);
    }
    for (size_t i = 0; i < CN_COUNT(second) && !two; i++) {
        snprintf(conditions, CN_DATASET_PATH_BYTES, "%s/%s", dir, second[i]);
        two = cn_dir_exists(conditions);
    }
    return one && two;
}

static bool detect(const char *dir)
{
    char images[CN_DATASET_PATH_BYTES], conditions[CN_DATASET_PATH_BYTES];
    return find_twins(dir, images, conditions);
}

static cn_status caption_path(cn_ctx *ctx, const cn_dataset *d, const char *name,
                              const char *ending, char out[CN_DATASET_PATH_BYTES])
{
    return cn_format(ctx, out, CN_DATASET_PATH_BYTES, "%s/%.*s%s", d->dir,
                     (int)cn_stem_length(name), name, ending);
}

static cn_status add_pair(cn_ctx *ctx, cn_dataset *d, const char *target, const char *condition)
{
    folders *f = d->own;
    char path[CN_DATASET_PATH_BYTES];
    uint64_t caption = 0;
    for (uint64_t k = 0; k < 2 && !caption; k++) {
        if (!f->captions[k][0]) continue;
        CN_TRY(caption_path(ctx, d, target, f->captions[k], path));
        if (cn_file_exists(path)) caption = k + 1;
    }
    f->without_caption += !caption;
    const char *ending = condition + cn_stem_length(condition);
    const uint64_t words[2] = {f->names.len, caption};
    cn_str_add(&f->names, target, strlen(target) + 1);
    cn_str_add(&f->names, ending, strlen(ending) + 1);
    if (f->names.failed) return cn_fail(ctx, CN_ENOMEM, "no memory for the names of pairs");
    return cn_dataset_add(ctx, d, words);
}

/* Both listings are sorted: one walk finds pairs, and what has no partner. */
static cn_status match(cn_ctx *ctx, cn_dataset *d, const cn_listing *t, const cn_listing *c,
                       cn_dataset_faults *faults)
{
    const folders *f = d->own;
    int64_t i = 0, k = 0;
    while (i < t->n || k < c->n) {
        cn_status s;
        const int order = i == t->n   ? 1
                          : k == c->n ? -1
                                      : cn_stem_compare(t->names[i], c->names[k]);
        if (order < 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: no condition of this stem in %s", d->dir,
                        t->names[i], f->conditions);
            i++;
        } else if (order > 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: no picture of this stem in %s", f->conditions,
                        c->names[k], d->dir);
            k++;
        } else if (i + 1 < t->n && cn_stem_compare(t->names[i], t->names[i + 1]) == 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: %s has the same stem", d->dir, t->names[i],
                        t->names[i + 1]);
            i++;
        } else if (k + 1 < c->n && cn_stem_compare(c->names[k], c->names[k + 1]) == 0) {
            s = cn_fail(ctx, CN_EFORMAT, "%s/%s: %s has the same stem", f->conditions, c->names[k],
                        c->names[k + 1]);
            k++;
        } else {
            s = add_pair(ctx, d, t->names[i++], c->names[k++]);
        }
        CN_TRY(cn_dataset_fault(ctx, faults, s));
    }
    return CN_OK;
}

static cn_status set_folders(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o, folders *f)
{
    char images[CN_DATASET_PATH_BYTES];
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
    const cn_listing_rules pictures = {.endings = cn_picture_endings};
    cn_listing targets = {0}, conditions = {0};
    folders *f = cn_alloc0(ctx, sizeof *f);
    if (!f) return CN_ENOMEM;
    d->own = f;
    d->words = 2;
    CN_TRY(set_folders(ctx, d, o, f));
    cn_status s = cn_listing_read(ctx, d->dir, &pictures, &targets);
    if (s == CN_OK) s = cn_listing_read(ctx, f->conditions, &pictures, &conditions);
    if (s == CN_OK) s = match(ctx, d, &targets, &conditions, faults);
    cn_listing_free(&targets);
    cn_listing_free(&conditions);
    if (s != CN_OK) return s;
    snprintf(d->found, sizeof d->found,
             "%lld pairs (folders): pictures in %.400s, conditions of the same stems in %.400s, "
             "captions %s%s%s (%lld pictures have none)",
             (long long)d->n, d->dir, f->conditions, f->captions[0],
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
    char path[CN_DATASET_PATH_BYTES];
    CN_TRY(cn_dataset_path(ctx, d->dir, name, path));
    if (!(out->where = cn_strdup(ctx, path))) return CN_ENOMEM;
    if (!(out->target.path = cn_strdup(ctx, path))) return CN_ENOMEM;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%.*s%s", f->conditions, (int)cn_stem_length(name),
                     name, name + strlen(name) + 1));
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
