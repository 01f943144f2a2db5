/* SPDX-License-Identifier: Apache-2.0 */
/* dataset.c - finds out which layout a path holds, and what all layouts have in common. */
#include "data/dataset.h"

#include "io/listing.h"
#include "io/tar.h"
#include "data/dataset_layouts.h"

#include <dirent.h>
#include <string.h>

enum { MAX_PICTURE_BYTES = 1 << 30, HEAD_BYTES = 32 << 10 };

#define LAYOUT(name) &cn_dataset_##name,
static const cn_dataset_layout *const layouts[] = {CN_DATASET_LAYOUT_LIST(LAYOUT)};
#undef LAYOUT

const char *cn_dataset_layout_name(const cn_dataset *d)
{
    return d->layout->name;
}

void cn_dataset_item_free(cn_dataset_item *item)
{
    cn_free(item->where);
    cn_free(item->condition.path);
    cn_free(item->target.path);
    cn_free(item->prompt);
    *item = (cn_dataset_item){0};
}

void cn_dataset_close(cn_dataset *d)
{
    if (!d) return;
    if (d->layout) d->layout->close(d);
    cn_free(d->index);
    cn_free(d);
}

/* --- for the layouts -------------------------------------------------------------------------- */

cn_status cn_dataset_fault(cn_ctx *ctx, cn_dataset_faults *f, cn_status s)
{
    if (s != CN_EFORMAT) return s;
    if (f->o->problem) f->o->problem(f->o->problem_user, cn_error(ctx));
    if (!f->n++) snprintf(f->first, sizeof f->first, "%s", cn_error(ctx));
    return CN_OK;
}

cn_status cn_dataset_add(cn_ctx *ctx, cn_dataset *d, const uint64_t *words)
{
    const size_t each = (size_t)d->words * sizeof *words;
    if (d->n == d->cap) {
        const int64_t cap = d->cap ? 2 * d->cap : 1024;
        uint64_t *grown = cn_regrow(ctx, d->index, (size_t)d->n * each, (size_t)cap * each);
        if (!grown) return CN_ENOMEM;
        d->index = grown;
        d->cap = cap;
    }
    memcpy(d->index + d->n++ * d->words, words, each);
    return CN_OK;
}

/* --- which layout ----------------------------------------------------------------------------- */

/* What is in a folder that holds no pairs, so that the reader sees what was looked at. */
static cn_status describe_folder(cn_ctx *ctx, const char *dir, char *out, size_t cap)
{
    int pictures = 0, folders = 0, others = 0;
    char path[CN_PATH_BYTES + 512];
    const struct dirent *e = NULL;
    cn_dir *list = NULL;
    CN_TRY(cn_dir_open(ctx, dir, &list));
    cn_status s = CN_OK;
    while ((s = cn_dir_next(list, &e)) == CN_OK && e) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (cn_dir_exists(path))
            folders++;
        else if (cn_has_ending(e->d_name, cn_picture_endings))
            pictures++;
        else
            others++;
    }
    cn_dir_close(list);
    snprintf(out, cap, "%d pictures, %d folders, %d other files", pictures, folders, others);
    return s;
}

static cn_status fail_nothing(cn_ctx *ctx, const char *dir)
{
    char found[128];
    cn_str list = {0};
    CN_TRY(cn_dataset_fail_packed(ctx, dir));
    if (!cn_dir_exists(dir))
        return cn_fail(ctx, CN_EIO, "%s: no such folder; a folder of training pairs is expected",
                       dir);
    CN_TRY(describe_folder(ctx, dir, found, sizeof found));
    for (size_t i = 0; i < CN_COUNT(layouts); i++)
        cn_str_addf(&list, "%s%s",
                    i + 1 == CN_COUNT(layouts) ? " or "
                    : i                        ? ", "
                                               : "",
                    layouts[i]->expected);
    const cn_status s = cn_fail(ctx, CN_EIO, "%s: no training pairs (%s); %s is expected", dir,
                                found, list.data ? list.data : "");
    cn_str_free(&list);
    return s;
}

/* The list in `dir`, its name in *name, which is NULL where there is none. */
static cn_status find_list(cn_ctx *ctx, const char *dir, const char **name, cn_dataset *d)
{
    char path[CN_PATH_BYTES];
    *name = NULL;
    for (size_t i = 0; i < CN_COUNT(layouts); i++)
        for (const char *const *list = layouts[i]->lists; *list; list++) {
            CN_TRY(cn_dataset_path(ctx, dir, *list, path));
            if ((*name && !strcmp(*name, *list)) || !cn_file_exists(path)) continue;
            if (layouts[i]->reads && !layouts[i]->reads(path)) continue;
            if (*name)
                return cn_fail(ctx, CN_EINVAL, "%s: holds %s and %s; only one may list the pairs",
                               dir, *name, *list);
            *name = *list;
            d->layout = layouts[i];
        }
    return CN_OK;
}

static cn_status detect_list(cn_ctx *ctx, cn_dataset *d)
{
    const char *name = NULL;
    char train[CN_PATH_BYTES];
    CN_TRY(find_list(ctx, d->dir, &name, d));
    if (!name) {
        CN_TRY(cn_dataset_path(ctx, d->dir, "train", train));
        CN_TRY(find_list(ctx, train, &name, d));
        if (name) CN_TRY(cn_format(ctx, d->dir, sizeof d->dir, "%s", train));
    }
    return name ? cn_dataset_path(ctx, d->dir, name, d->list) : CN_OK;
}

static void detect_by_row(cn_dataset *d, bool over_lists)
{
    for (size_t i = 0; !d->layout && i < CN_COUNT(layouts); i++)
        if (layouts[i]->over_lists == over_lists && layouts[i]->detect &&
            layouts[i]->detect(d->dir))
            d->layout = layouts[i];
}

static cn_status detect(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o)
{
    const bool conditions = o->conditioning_dir && *o->conditioning_dir;
    CN_TRY(cn_format(ctx, d->list, sizeof d->list, "%s", d->dir));
    for (size_t i = 0; conditions && cn_dir_exists(d->dir) && i < CN_COUNT(layouts); i++)
        if (layouts[i]->takes_conditions) d->layout = layouts[i];
    if (!conditions) {
        detect_by_row(d, true);
        if (!d->layout) CN_TRY(detect_list(ctx, d));
        detect_by_row(d, false);
    }
    return d->layout ? CN_OK : fail_nothing(ctx, d->dir);
}

/* --- opening ---------------------------------------------------------------------------------- */

static cn_status settle(cn_ctx *ctx, cn_dataset *d, const cn_dataset_faults *f)
{
    if (f->n > 1 && !f->o->skip_bad)
        return cn_fail(ctx, CN_EFORMAT, "%s (and %lld more such pairs)", f->first,
                       (long long)(f->n - 1));
    if (f->n && (!f->o->skip_bad || !d->n)) return cn_fail(ctx, CN_EFORMAT, "%s", f->first);
    if (!d->n) return cn_fail(ctx, CN_EFORMAT, "%s: no training pairs in it", d->list);
    d->skipped = f->n;
    return CN_OK;
}

cn_status cn_dataset_open(cn_ctx *ctx, const cn_dataset_options *options, cn_dataset **out)
{
    cn_dataset_faults faults = {.o = options};
    cn_dataset *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    cn_status s = cn_format(ctx, d->dir, sizeof d->dir, "%s", options->dir);
    for (size_t n = strlen(d->dir); n > 1 && d->dir[n - 1] == '/';) d->dir[--n] = 0;
    if (s == CN_OK) s = detect(ctx, d, options);
    if (s == CN_OK) s = d->layout->open(ctx, d, options, &faults);
    if (s == CN_OK) s = settle(ctx, d, &faults);
    if (s != CN_OK) {
        cn_dataset_close(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

/* --- fetching --------------------------------------------------------------------------------- */

cn_status cn_dataset_get(cn_ctx *ctx, const cn_dataset *d, int64_t i, bool prompt,
                         cn_dataset_item *out)
{
    cn_dataset_item item = {.condition.position = -1, .target.position = -1};
    cn_status s = d->layout->get(ctx, d, d->index + i * d->words, prompt, &item);
    if (s == CN_OK && !item.prompt && !(item.prompt = cn_strdup(ctx, ""))) s = CN_ENOMEM;
    if (s != CN_OK) {
        cn_dataset_item_free(&item);
        return s;
    }
    *out = item;
    return CN_OK;
}

cn_status cn_dataset_read(cn_ctx *ctx, const cn_dataset_file *file, char **data, size_t *n)
{
    return file->position < 0
               ? cn_file_read(ctx, file->path, MAX_PICTURE_BYTES, data, n)
               : cn_tar_read(ctx, file->path, file->position, MAX_PICTURE_BYTES, NULL, data, n);
}

cn_status cn_dataset_decode(cn_ctx *ctx, const cn_dataset_file *file, cn_image **out)
{
    char *name = NULL, *data = NULL;
    size_t n = 0;
    if (file->position < 0) return cn_image_load(ctx, file->path, out);
    CN_TRY(cn_tar_read(ctx, file->path, file->position, MAX_PICTURE_BYTES, &name, &data, &n));
    cn_status s = cn_image_load_memory(ctx, data, n, out);
    if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", name);
    cn_free(name);
    cn_free(data);
    return s;
}

cn_status cn_dataset_where(cn_ctx *ctx, const cn_dataset *d, int64_t i, char *out, size_t cap)
{
    cn_dataset_item item;
    char *name = NULL, *data = NULL;
    size_t n = 0;
    CN_TRY(cn_dataset_get(ctx, d, i, false, &item));
    if (item.target.position >= 0 && cn_tar_read(ctx, item.target.path, item.target.position,
                                                 MAX_PICTURE_BYTES, &name, &data, &n) == CN_OK)
        snprintf(out, cap, "%s: %s", item.target.path, name);
    else
        snprintf(out, cap, "%s", item.where);
    cn_free(name);
    cn_free(data);
    cn_dataset_item_free(&item);
    return CN_OK;
}

cn_dataset cn_dataset_slice(const cn_dataset *d, int64_t first, int64_t n)
{
    cn_dataset view = *d;
    view.index += first * d->words;
    view.n = n;
    return view;
}

static cn_status read_size(cn_ctx *ctx, const cn_dataset_file *f, size_t most, int64_t *width,
                           int64_t *height)
{
    char *data = NULL;
    size_t n = 0;
    cn_status s = f->position < 0 ? cn_file_read_head(ctx, f->path, most, &data, &n)
                                  : cn_tar_read_head(ctx, f->path, f->position, most, &data, &n);
    if (s == CN_OK) {
        s = cn_image_size_memory(ctx, data, n, width, height);
        if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", f->path);
    }
    cn_free(data);
    return s;
}

cn_status cn_dataset_size(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t *width,
                          int64_t *height)
{
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(ctx, d, i, false, &item));
    cn_status s = read_size(ctx, &item.target, HEAD_BYTES, width, height);
    if (s == CN_EFORMAT) /* a large thumbnail or colour profile comes first */
        s = read_size(ctx, &item.target, MAX_PICTURE_BYTES, width, height);
    if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", item.where);
    cn_dataset_item_free(&item);
    return s;
}

static cn_status load_picture(cn_ctx *ctx, const cn_dataset_file *file, int64_t width,
                              int64_t height, cn_crop crop, cn_image **out)
{
    cn_image *image = NULL, *fitted = NULL;
    CN_TRY(cn_dataset_decode(ctx, file, &image));
    if (width <= 0 || (image->width == width && image->height == height)) {
        *out = image;
        return CN_OK;
    }
    const cn_status s = cn_image_resize_crop(ctx, image, width, height, crop, &fitted);
    cn_image_destroy(image);
    if (s == CN_OK) *out = fitted;
    return s;
}

cn_status cn_dataset_load_crop(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                               int64_t height, cn_crop crop, cn_image **condition,
                               cn_image **target)
{
    cn_dataset_item item;
    cn_image *c = NULL, *t = NULL;
    CN_TRY(cn_dataset_get(ctx, d, i, false, &item));
    cn_status s = condition ? load_picture(ctx, &item.condition, width, height, crop, &c) : CN_OK;
    if (s == CN_OK && target) s = load_picture(ctx, &item.target, width, height, crop, &t);
    if (s == CN_OK) {
        if (condition) *condition = c;
        if (target) *target = t;
    } else {
        cn_image_destroy(c);
        s = cn_fail_prefix(ctx, s, "%s", item.where);
    }
    cn_dataset_item_free(&item);
    return s;
}

cn_status cn_dataset_load(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                          int64_t height, cn_image **condition, cn_image **target)
{
    return cn_dataset_load_crop(ctx, d, i, width, height, (cn_crop){0.5, 0.5, 1}, condition,
                                target);
}
