/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_list.c - what layouts have in common whose pairs are named by the lines or elements of a
 * file.
 *
 * Index: where a pair begins in the file; its number (40 bits) and its bytes (24 bits above). It is
 * read and parsed again whenever it is fetched.
 */
#include "data/dataset_internal.h"
#include "base/sys.h"
#include "io/json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { NUMBER_BITS = 40, MAX_PAIR_BYTES = (1 << 24) - 1 };

/* --- one JSON object -------------------------------------------------------------------------- */

/* The value under key, key_file_name or other. */
static const json_t *find_value(const json_t *object, const char *key, const char *other)
{
    char long_key[CN_DATASET_COLUMN_BYTES + 16];
    const json_t *value = json_object_get(object, key);
    snprintf(long_key, sizeof long_key, "%s_file_name", key);
    if (!value) value = json_object_get(object, long_key);
    return !value && other ? json_object_get(object, other) : value;
}

cn_status cn_dataset_take_text(cn_ctx *ctx, const char *where, const char *key, const char *text,
                               size_t n, bool is_path, char **out)
{
    if (is_path && (n == 0 || n >= CN_PATH_BYTES / 2))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" is %s, a file's path is expected", where, key,
                       n ? "too long" : "empty");
    if (n > CN_DATASET_PROMPT_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\" has %zu bytes, at most %d are possible", where,
                       key, n, CN_DATASET_PROMPT_BYTES);
    return (*out = cn_strdup(ctx, text)) ? CN_OK : CN_ENOMEM;
}

/* What an object has instead of `key`, and the option that names another. */
static cn_status fail_missing(cn_ctx *ctx, const char *where, const json_t *object, const char *key,
                              const char *other, const char *option)
{
    cn_str have = {0};
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) if (have.len < 200)
        cn_str_addf(&have, "%s%.60s", have.len ? ", " : "", name);
    const cn_status s = cn_fail(ctx, CN_EFORMAT, "%s: \"%s\"%s%s%s is missing; it has %s (%s)",
                                where, key, other ? " or \"" : "", other ? other : "",
                                other ? "\"" : "", have.data ? have.data : "nothing", option);
    cn_str_free(&have);
    return s;
}

static cn_status take_string(cn_ctx *ctx, const char *where, const json_t *object, const char *key,
                             const char *other, const char *option, char **out)
{
    const bool is_path = strcmp(option, "--caption-column") != 0;
    const json_t *value = find_value(object, key, is_path ? other : NULL);
    if (!is_path && json_is_array(value)) value = json_array_get(value, 0); /* several captions */
    if (!value) return fail_missing(ctx, where, object, key, other, option);
    if (!json_is_string(value))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"%s\"%s%s%s is not a string", where, key,
                       other ? " or \"" : "", other ? other : "", other ? "\"" : "");
    return cn_dataset_take_text(ctx, where, key, json_string_value(value),
                                json_string_length(value), is_path, out);
}

cn_status cn_dataset_item_from_json(cn_ctx *ctx, const cn_dataset_columns *c, const char *where,
                                    const json_t *object, cn_dataset_item *item)
{
    CN_TRY(take_string(ctx, where, object, c->condition, NULL, "--conditioning-image-column",
                       &item->condition.path));
    CN_TRY(take_string(ctx, where, object, c->target, c->target_other, "--image-column",
                       &item->target.path));
    return take_string(ctx, where, object, c->prompt, NULL, "--caption-column", &item->prompt);
}

cn_status cn_dataset_parse_json(cn_ctx *ctx, const cn_dataset_list *l, const char *where,
                                const char *bytes, size_t n, cn_dataset_item *item)
{
    json_t *object = NULL;
    CN_TRY(cn_json_load_memory(ctx, where, bytes, n, &object));
    const cn_status s =
        json_is_object(object)
            ? cn_dataset_item_from_json(ctx, &l->names, where, object, item)
            : cn_fail(ctx, CN_EFORMAT, "%s: no JSON object; each line holds one", where);
    json_decref(object);
    return s;
}

/* --- the file --------------------------------------------------------------------------------- */

/* Relative names to paths. */
static cn_status absolute(cn_ctx *ctx, const cn_dataset *d, cn_dataset_file *file)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_dataset_locate(ctx, d->dir, file->path, path));
    cn_free(file->path);
    return (file->path = cn_strdup(ctx, path)) ? CN_OK : CN_ENOMEM;
}

static cn_status need_file(cn_ctx *ctx, const cn_dataset *d, const char *where, const char *name)
{
    char path[CN_PATH_BYTES], near[640];
    CN_TRY(cn_dataset_locate(ctx, d->dir, name, path));
    if (cn_file_exists(path)) return CN_OK;
    CN_TRY(cn_dataset_describe_missing(ctx, path, near, sizeof near));
    return cn_fail(ctx, CN_EFORMAT, "%s: %s is missing (%s%s)", where, name, path, near);
}

cn_status cn_dataset_list_where(cn_ctx *ctx, const cn_dataset *d, int64_t number,
                                char out[CN_PATH_BYTES + 32])
{
    return cn_format(ctx, out, CN_PATH_BYTES + 32, "%s%s%lld", d->list, d->layout->before_number,
                     (long long)number);
}

/* A parsed pair enters the index when both its pictures are there. */
static cn_status enter(cn_ctx *ctx, cn_dataset *d, const cn_dataset_place *place,
                       const cn_dataset_item *item)
{
    char where[CN_PATH_BYTES + 32];
    CN_TRY(cn_dataset_list_where(ctx, d, place->number, where));
    if (place->bytes > MAX_PAIR_BYTES)
        return cn_fail(ctx, CN_EFORMAT, "%s: a line of more than %d MB", where,
                       MAX_PAIR_BYTES >> 20);
    CN_TRY(need_file(ctx, d, where, item->condition.path));
    CN_TRY(need_file(ctx, d, where, item->target.path));
    return cn_dataset_add(
        ctx, d,
        (uint64_t[]){(uint64_t)place->begin,
                     (uint64_t)place->number | (uint64_t)place->bytes << NUMBER_BITS});
}

cn_status cn_dataset_list_take(cn_ctx *ctx, cn_dataset *d, cn_dataset_faults *f,
                               const cn_dataset_place *place, cn_status s, cn_dataset_item *item)
{
    if (s == CN_OK) s = enter(ctx, d, place, item);
    cn_dataset_item_free(item);
    return cn_dataset_fault(ctx, f, s);
}

static cn_status copy_name(cn_ctx *ctx, const char *given, const char *usual,
                           char out[CN_DATASET_COLUMN_BYTES], const char **name)
{
    *name = out;
    return cn_format(ctx, out, CN_DATASET_COLUMN_BYTES, "%s", given && *given ? given : usual);
}

static cn_status name_columns(cn_ctx *ctx, const cn_dataset *d, const cn_dataset_options *o,
                              cn_dataset_list *l)
{
    const cn_dataset_columns usual = d->layout->columns;
    CN_TRY(copy_name(ctx, o->conditioning_image_column, usual.condition, l->condition,
                     &l->names.condition));
    CN_TRY(copy_name(ctx, o->image_column, usual.target, l->target, &l->names.target));
    CN_TRY(copy_name(ctx, o->caption_column, usual.prompt, l->prompt, &l->names.prompt));
    l->names.target_other = usual.target_other;
    return CN_OK;
}

cn_status cn_dataset_list_open(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                               cn_dataset_faults *f)
{
    cn_dataset_list *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    d->own = l;
    d->words = 2;
    l->fd = -1;
    CN_TRY(cn_file_open(ctx, d->list, &l->fd, NULL));
    CN_TRY(name_columns(ctx, d, o, l));
    CN_TRY(d->layout->scan(ctx, d, f));
    snprintf(d->found, sizeof d->found,
             "%lld pairs (%s) from %.500s: pictures \"%s\"%s, conditions \"%s\", "
             "prompts \"%s\"",
             (long long)d->n, d->layout->name, d->list, l->names.target,
             l->names.target_other ? " or \"file_name\"" : "", l->names.condition, l->names.prompt);
    return CN_OK;
}

void cn_dataset_list_close(cn_dataset *d)
{
    cn_dataset_list *l = d->own;
    if (!l) return;
    if (l->fd >= 0) close(l->fd);
    cn_free(l);
}

/* --- a pair ----------------------------------------------------------------------------------- */

static cn_status read_span(cn_ctx *ctx, const cn_dataset_list *l, const char *where, uint64_t begin,
                           size_t bytes, char *out)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t k = cn_sys_pread(l->fd, out + done, bytes - done, (int64_t)(begin + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return cn_fail(ctx, CN_EIO, "%s: can't read it again; has it changed?", where);
        done += (size_t)k;
    }
    return CN_OK;
}

cn_status cn_dataset_list_get(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                              cn_dataset_item *out)
{
    const cn_dataset_list *l = d->own;
    const size_t n = (size_t)(words[1] >> NUMBER_BITS);
    char where[CN_PATH_BYTES + 32];
    (void)prompt; /* it stands there anyway */
    CN_TRY(cn_dataset_list_where(ctx, d, (int64_t)(words[1] & ((UINT64_C(1) << NUMBER_BITS) - 1)),
                                 where));
    if (!(out->where = cn_strdup(ctx, where))) return CN_ENOMEM;
    char *bytes = cn_alloc(ctx, n + 1);
    if (!bytes) return CN_ENOMEM;
    cn_status s = read_span(ctx, l, where, words[0], n, bytes);
    if (s == CN_OK) s = d->layout->parse(ctx, l, where, bytes, n, out);
    cn_free(bytes);
    if (s == CN_OK) s = absolute(ctx, d, &out->condition);
    if (s == CN_OK) s = absolute(ctx, d, &out->target);
    return s;
}
