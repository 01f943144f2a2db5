/* SPDX-License-Identifier: Apache-2.0 */
/* torchpickle.c - torch.save's format before 1.6: pickles one behind the other (a magic number, a
 * version, the machine, the object, the storages' keys), then each storage as its number of
 * elements and its bytes.
 *
 * Source: torch/serialization.py, _legacy_save. Left out: big-endian files, storages that are parts
 * of others.
 */
#include "io/tensors_internal.h"

#include <stdlib.h>
#include <string.h>

/* One storage and where it is in the file: NULL until that is known. */
typedef struct piece {
    const cn_pickle_storage *storage;
    const unsigned char *data;
} piece;

/* By key, each once. */
typedef struct pieces {
    piece *list;
    size_t n;
} pieces;

static const unsigned char magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                      0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

bool cn_is_torchpickle(const unsigned char *bytes, size_t n)
{
    return n > sizeof magic && !memcmp(bytes, magic, sizeof magic);
}

static int by_key(const void *a, const void *b)
{
    const cn_pickle_storage *p = ((const piece *)a)->storage, *q = ((const piece *)b)->storage;
    const int order = memcmp(p->key, q->key, CN_MIN(p->key_len, q->key_len));
    return order ? order : (p->key_len > q->key_len) - (p->key_len < q->key_len);
}

static piece *find_piece(const pieces *all, const cn_pickle_storage *s)
{
    const piece wanted = {.storage = s};
    return all->n ? bsearch(&wanted, all->list, all->n, sizeof wanted, by_key) : NULL;
}

static cn_status find_storage(cn_ctx *ctx, const void *user, const cn_pickle_storage *s,
                              const char *name, const unsigned char **data)
{
    const piece *p = find_piece(user, s);
    if (!p || !p->data || p->storage->elements != s->elements || p->storage->dtype != s->dtype)
        return cn_fail(ctx, CN_EFORMAT, "tensor %s: its storage of %lld elements is missing", name,
                       (long long)s->elements);
    *data = p->data;
    return CN_OK;
}

/* The storages that the object mentions. */
static cn_status list_storages(cn_ctx *ctx, const cn_pickle *object, pieces *out)
{
    size_t count = 0, n = 0;
    for (const cn_pickle_storage *s = cn_pickle_storages(object); s; s = s->next) count++;
    out->list = cn_alloc_array(ctx, count + 1, sizeof *out->list);
    if (!out->list) return CN_ENOMEM;
    for (const cn_pickle_storage *s = cn_pickle_storages(object); s; s = s->next)
        out->list[n++] = (piece){.storage = s};
    qsort(out->list, n, sizeof *out->list, by_key);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_key(&out->list[i - 1], &out->list[i]) != 0)
            out->list[out->n++] = out->list[i];
    return CN_OK;
}

/* The next pickle; *at moves behind it. *out: cn_pickle_destroy. */
static cn_status next_pickle(cn_ctx *ctx, const cn_tensors *t, size_t *at, cn_pickle **out)
{
    size_t used = 0;
    CN_TRY(cn_pickle_parse(ctx, t->bytes + *at, t->n - *at, out, &used));
    *at += used;
    return CN_OK;
}

/* {'protocol_version': 1001, 'little_endian': True, 'type_sizes': ...} */
static cn_status check_machine(cn_ctx *ctx, const cn_pickle *machine)
{
    const cn_pickle_obj *o = cn_pickle_root(machine);
    for (size_t i = 0; o->kind == CN_PK_DICT && i + 1 < o->n; i += 2)
        if (cn_pickle_is_str(o->u.items[i], "little_endian") && o->u.items[i + 1]->u.i)
            return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "saved on a big-endian machine, which is not read");
}

/* The next storage, whose key is given: its number of elements, then they. *at moves behind it. */
static cn_status place(cn_ctx *ctx, const cn_tensors *t, const cn_pickle_obj *key,
                       const pieces *all, size_t *at)
{
    if (key->kind != CN_PK_STR) return cn_fail(ctx, CN_EFORMAT, "a storage's key isn't a string");
    piece *p = find_piece(all, &(cn_pickle_storage){.key = key->u.s, .key_len = key->n});
    if (!p || p->storage->dtype == CN_DTYPE_COUNT)
        return cn_fail(ctx, CN_EFORMAT, "storage %.*s is of a type that is not known",
                       (int)CN_MIN(key->n, (size_t)100), key->u.s);
    uint64_t elements = 0;
    size_t bytes;
    if (t->n - *at < 8) return cn_fail(ctx, CN_EFORMAT, "the file ends in the middle");
    for (size_t b = 8; b-- > 0;) elements = elements << 8 | t->bytes[*at + b];
    *at += 8;
    if (elements != (uint64_t)p->storage->elements ||
        !cn_mul_size((size_t)elements, cn_dtype_bytes(p->storage->dtype), &bytes) ||
        bytes > t->n - *at)
        return cn_fail(ctx, CN_EFORMAT,
                       "the file ends in the middle, or a storage has another size");
    p->data = t->bytes + *at;
    *at += bytes;
    return CN_OK;
}

static cn_status place_all(cn_ctx *ctx, const cn_tensors *t, const cn_pickle *keys,
                           const pieces *all, size_t at)
{
    const cn_pickle_obj *o = cn_pickle_root(keys);
    if (o->kind != CN_PK_LIST) return cn_fail(ctx, CN_EFORMAT, "a list of storages is missing");
    for (size_t i = 0; i < o->n; i++) CN_TRY(place(ctx, t, o->u.items[i], all, &at));
    return CN_OK;
}

static cn_status parse_pickles(cn_ctx *ctx, cn_tensors *t, cn_pickle **machine, cn_pickle **object,
                               cn_pickle **keys, pieces *all)
{
    size_t at = sizeof magic;
    cn_pickle *version = NULL;
    CN_TRY(next_pickle(ctx, t, &at, &version));
    cn_pickle_destroy(version);
    CN_TRY(next_pickle(ctx, t, &at, machine));
    CN_TRY(check_machine(ctx, *machine));
    CN_TRY(next_pickle(ctx, t, &at, object));
    CN_TRY(next_pickle(ctx, t, &at, keys));
    CN_TRY(list_storages(ctx, *object, all));
    CN_TRY(place_all(ctx, t, *keys, all, at));
    return cn_torch_tree(ctx, t, *object, &(cn_torch_source){find_storage, all});
}

cn_status cn_torchpickle_parse(cn_ctx *ctx, cn_tensors *t)
{
    cn_pickle *machine = NULL, *object = NULL, *keys = NULL;
    pieces all = {0};
    cn_status s = parse_pickles(ctx, t, &machine, &object, &keys, &all);
    cn_free(all.list);
    cn_pickle_destroy(machine);
    cn_pickle_destroy(object);
    cn_pickle_destroy(keys);
    return s;
}
