/* SPDX-License-Identifier: Apache-2.0 */
/* torchzip.c - torch.save's zip format: NAME/data.pkl says which tensors there are, NAME/data/KEY
 * holds bytes.
 *
 * Left out: TorchScript archives, big-endian files, compressed entries.
 */
#include "io/tensors_internal.h"

#include "io/zip.h"

#include <string.h>

enum { MAX_PATH = 1024, MAX_PICKLE = 1 << 28 };

typedef struct archive {
    const cn_zip *zip;
    const char *prefix; /* "archive/", prefix_len bytes */
    size_t prefix_len;
} archive;

static const cn_zip_entry *find_entry(const archive *a, const char *folder, const char *key,
                                      size_t len)
{
    char path[MAX_PATH];
    size_t folder_len = strlen(folder);
    if (a->prefix_len + folder_len + len > sizeof path) return NULL;
    memcpy(path, a->prefix, a->prefix_len);
    memcpy(path + a->prefix_len, folder, folder_len);
    memcpy(path + a->prefix_len + folder_len, key, len);
    return cn_zip_find(a->zip, path, a->prefix_len + folder_len + len);
}

static cn_status find_storage(cn_ctx *ctx, const void *user, const cn_pickle_storage *s,
                              const char *name, const unsigned char **data)
{
    size_t bytes;
    const cn_zip_entry *e = find_entry(user, "data/", s->key, s->key_len);
    if (!e)
        return cn_fail(ctx, CN_EFORMAT, "tensor %s: its entry data/%.*s is missing", name,
                       (int)CN_MIN(s->key_len, (size_t)100), s->key);
    if (!e->data)
        return cn_fail(
            ctx, CN_EFORMAT,
            "tensor %s: its zip entry is compressed; torch.save stores entries as they are", name);
    if (!cn_mul_size((size_t)s->elements, cn_dtype_bytes(s->dtype), &bytes) || bytes != e->n)
        return cn_fail(
            ctx, CN_EFORMAT,
            "tensor %s: its zip entry has %zu bytes, %lld elements of %s need another size", name,
            e->n, (long long)s->elements, cn_dtype_name(s->dtype));
    *data = e->data;
    return CN_OK;
}

/* The entry FOLDER/data.pkl; the folder's name with its slash is the prefix of all others. */
static const cn_zip_entry *find_pickle(const cn_zip *zip, size_t *prefix_len)
{
    static const char name[] = "data.pkl";
    size_t n = sizeof name - 1;
    for (size_t i = 0; i < zip->count; i++) {
        const cn_zip_entry *e = &zip->entries[i];
        if (e->name_len < n || memcmp(e->name + e->name_len - n, name, n) != 0) continue;
        const char *slash = memchr(e->name, '/', e->name_len);
        *prefix_len = slash ? (size_t)(slash - e->name) + 1 : 0;
        if (*prefix_len == e->name_len - n) return e;
    }
    return NULL;
}

static cn_status parse_archive(cn_ctx *ctx, cn_tensors *t, const cn_zip *zip)
{
    cn_pickle *pickle = NULL;
    archive a = {.zip = zip};
    const cn_zip_entry *pkl = find_pickle(zip, &a.prefix_len);
    if (!pkl)
        return cn_fail(ctx, CN_EFORMAT, "a zip file without data.pkl, so not a torch checkpoint");
    a.prefix = pkl->name;
    if (find_entry(&a, "", "constants.pkl", 13))
        return cn_fail(ctx, CN_EFORMAT,
                       "a TorchScript archive; save the state_dict, best as safetensors");
    const cn_zip_entry *order = find_entry(&a, "", "byteorder", 9);
    if (order && (order->n != 6 || !order->data || memcmp(order->data, "little", 6) != 0))
        return cn_fail(ctx, CN_EFORMAT, "saved on a big-endian machine, which is not read");
    if (!pkl->data || pkl->n > MAX_PICKLE)
        return cn_fail(ctx, CN_EFORMAT, "its data.pkl is compressed or too large");
    CN_TRY(cn_pickle_parse(ctx, pkl->data, pkl->n, &pickle, NULL));
    cn_status s = cn_torch_tree(ctx, t, pickle, &(cn_torch_source){find_storage, &a});
    cn_pickle_destroy(pickle);
    return s;
}

cn_status cn_torchzip_parse(cn_ctx *ctx, cn_tensors *t)
{
    cn_zip zip = {0};
    CN_TRY(cn_zip_parse(ctx, t->bytes, t->n, &zip));
    cn_status s = parse_archive(ctx, t, &zip);
    cn_zip_close(&zip);
    return s;
}
