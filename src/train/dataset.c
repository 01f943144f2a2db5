/* dataset.c - reads the list of pairs and looks after every file it names. */
#include "train/dataset.h"

#include "annotate/resize.h"
#include "io/json.h"

#include <string.h>

enum { PATH_BYTES = 4096, PROMPT_MAX_BYTES = 64 * 1024 };

void cn_dataset_item_free(cn_dataset_item *item)
{
    cn_free(item->condition);
    cn_free(item->target);
    cn_free(item->prompt);
    *item = (cn_dataset_item){0};
}

void cn_dataset_close(cn_dataset *d)
{
    if (!d) return;
    for (int64_t i = 0; i < d->n; i++) cn_dataset_item_free(&d->items[i]);
    cn_free(d->items);
    cn_free(d);
}

/* --- one line ----------------------------------------------------------------------------------- */

/* A copy of the string under `key` (or `other`), checked. */
static cn_status take_string(cn_ctx *ctx, const char *where, const json_t *object, const char *key,
                             const char *other, bool is_path, char **out)
{
    const json_t *value = json_object_get(object, key);
    if (!value && other) value = json_object_get(object, other);
    if (!json_is_string(value))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\"%s%s%s %s", where, key, other ? " or \"" : "",
                       other ? other : "", other ? "\"" : "",
                       value ? "is not a string" : "is missing");
    const char *text = json_string_value(value);
    const size_t n = json_string_length(value);
    if (is_path && (n == 0 || n >= PATH_BYTES / 2))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" is %s, a file's path is expected", where, key,
                       n ? "too long" : "empty");
    if (n > PROMPT_MAX_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" has %zu bytes, at most %d are possible", where,
                       key, n, PROMPT_MAX_BYTES);
    return (*out = cn_strdup(ctx, text)) ? CN_OK : CN_ENOMEM;
}

static cn_status item_from_json(cn_ctx *ctx, cn_dataset_layout layout, const char *where,
                                const json_t *object, cn_dataset_item *out)
{
    const bool fill = layout == CN_DATASET_FILL50K;
    cn_dataset_item item = {0};
    cn_status s = take_string(ctx, where, object, fill ? "source" : "conditioning_image", NULL,
                              true, &item.condition);
    if (s == CN_OK)
        s = take_string(ctx, where, object, fill ? "target" : "image", fill ? NULL : "file_name",
                        true, &item.target);
    if (s == CN_OK)
        s = take_string(ctx, where, object, fill ? "prompt" : "text", NULL, false, &item.prompt);
    if (s == CN_OK)
        *out = item;
    else
        cn_dataset_item_free(&item);
    return s;
}

cn_status cn_dataset_item_parse(cn_ctx *ctx, cn_dataset_layout layout, const char *where,
                                const char *json, size_t n, cn_dataset_item *out)
{
    json_t *object = NULL;
    CN_TRY(cn_json_load_memory(ctx, where, json, n, &object));
    cn_status s = json_is_object(object)
                      ? item_from_json(ctx, layout, where, object, out)
                      : cn_fail(ctx, CN_EFORMAT, "%s: no JSON object; each line holds one", where);
    json_decref(object);
    return s;
}

/* --- the list ----------------------------------------------------------------------------------- */

static cn_status path_of(cn_ctx *ctx, const cn_dataset *d, const char *name, char out[PATH_BYTES])
{
    if (name[0] == '/') return cn_format(ctx, out, PATH_BYTES, "%s", name);
    return cn_format(ctx, out, PATH_BYTES, "%s/%s", d->dir, name);
}

static cn_status need_file(cn_ctx *ctx, const cn_dataset *d, const char *where, const char *name)
{
    char path[PATH_BYTES];
    CN_TRY(path_of(ctx, d, name, path));
    if (cn_file_exists(path)) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "%s: %s is missing (%s)", where, name, path);
}

static cn_status add_item(cn_ctx *ctx, cn_dataset *d, cn_dataset_item *item)
{
    if (d->n == d->cap) {
        const int64_t cap = d->cap ? 2 * d->cap : 1024;
        cn_dataset_item *grown =
            cn_regrow(ctx, d->items, (size_t)d->n * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown) return CN_ENOMEM;
        d->items = grown;
        d->cap = cap;
    }
    d->items[d->n++] = *item;
    return CN_OK;
}

static cn_status take_line(cn_ctx *ctx, cn_dataset *d, const json_t *object, int64_t line)
{
    char where[PATH_BYTES + 32];
    cn_dataset_item item;
    CN_TRY(cn_format(ctx, where, sizeof where, "%s:%lld", d->list, (long long)line));
    CN_TRY(item_from_json(ctx, d->layout, where, object, &item));
    item.line = line;
    cn_status s = need_file(ctx, d, where, item.condition);
    if (s == CN_OK) s = need_file(ctx, d, where, item.target);
    if (s == CN_OK) s = add_item(ctx, d, &item);
    if (s != CN_OK) cn_dataset_item_free(&item);
    return s;
}

static cn_status find_list(cn_ctx *ctx, cn_dataset *d)
{
    char other[PATH_BYTES];
    if (!cn_dir_exists(d->dir))
        return cn_fail(ctx, CN_EIO, "%s: no such folder; a folder of training pairs is expected",
                       d->dir);
    CN_TRY(cn_format(ctx, d->list, sizeof d->list, "%s/prompt.json", d->dir));
    CN_TRY(cn_format(ctx, other, sizeof other, "%s/metadata.jsonl", d->dir));
    const bool fill = cn_file_exists(d->list), face = cn_file_exists(other);
    if (fill && face)
        return cn_fail(ctx, CN_EINVAL,
                       "%s: holds prompt.json and metadata.jsonl; only one may list the pairs",
                       d->dir);
    if (!fill && !face)
        return cn_fail(ctx, CN_EIO,
                       "%s: no training pairs; prompt.json (lines of source, target, prompt) or "
                       "metadata.jsonl (lines of image, conditioning_image, text) is expected",
                       d->dir);
    d->layout = fill ? CN_DATASET_FILL50K : CN_DATASET_HUGGINGFACE;
    return fill ? CN_OK : cn_format(ctx, d->list, sizeof d->list, "%s", other);
}

/* Reads on behind a bad line, so that all faults are told at once. */
static cn_status read_list(cn_ctx *ctx, cn_dataset *d, cn_dataset_problem problem, void *user)
{
    cn_jsonl *lines = NULL;
    int64_t bad = 0;
    char first[2048] = "";
    CN_TRY(cn_jsonl_open(ctx, d->list, &lines));
    for (;;) {
        json_t *object = NULL;
        cn_status s = cn_jsonl_next(ctx, lines, &object);
        if (s == CN_OK && !object) break;
        if (s == CN_OK) s = take_line(ctx, d, object, cn_jsonl_line(lines));
        json_decref(object);
        if (s == CN_OK) continue;
        if (s != CN_EFORMAT) { /* memory or the disk: no use going on */
            cn_jsonl_close(lines);
            return s;
        }
        if (problem) problem(user, cn_error(ctx));
        if (!bad++) snprintf(first, sizeof first, "%s", cn_error(ctx));
    }
    cn_jsonl_close(lines);
    if (bad > 1)
        return cn_fail(ctx, CN_EFORMAT, "%s (and %lld more such lines)", first,
                       (long long)(bad - 1));
    if (bad) return cn_fail(ctx, CN_EFORMAT, "%s", first);
    if (!d->n) return cn_fail(ctx, CN_EFORMAT, "%s: no training pairs in it", d->list);
    return CN_OK;
}

cn_status cn_dataset_open(cn_ctx *ctx, const char *dir, cn_dataset_problem problem, void *user,
                          cn_dataset **out)
{
    cn_dataset *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    cn_status s = cn_format(ctx, d->dir, sizeof d->dir, "%s", dir);
    for (size_t n = strlen(d->dir); n > 1 && d->dir[n - 1] == '/';) d->dir[--n] = 0;
    if (s == CN_OK) s = find_list(ctx, d);
    if (s == CN_OK) s = read_list(ctx, d, problem, user);
    if (s != CN_OK) {
        cn_dataset_close(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

/* --- pictures ----------------------------------------------------------------------------------- */

static cn_status load_picture(cn_ctx *ctx, const cn_dataset *d, int64_t i, const char *name,
                              int64_t width, int64_t height, cn_image **out)
{
    char path[PATH_BYTES];
    cn_image *image = NULL, *fitted = NULL;
    CN_TRY(path_of(ctx, d, name, path));
    cn_status s = cn_image_load(ctx, path, &image);
    if (s == CN_OK && width > 0 && (image->width != width || image->height != height)) {
        s = cn_image_resize_cover(ctx, image, width, height, &fitted);
        cn_image_destroy(image);
        image = fitted;
    }
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s:%lld", d->list, (long long)d->items[i].line);
    *out = image;
    return CN_OK;
}

cn_status cn_dataset_load(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                          int64_t height, cn_image **condition, cn_image **target)
{
    const cn_dataset_item *item = &d->items[i];
    cn_image *c = NULL, *t = NULL;
    if (condition) CN_TRY(load_picture(ctx, d, i, item->condition, width, height, &c));
    cn_status s = target ? load_picture(ctx, d, i, item->target, width, height, &t) : CN_OK;
    if (s != CN_OK) {
        cn_image_destroy(c);
        return s;
    }
    if (condition) *condition = c;
    if (target) *target = t;
    return CN_OK;
}
