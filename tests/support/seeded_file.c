/* SPDX-License-Identifier: Apache-2.0 */
/* seeded_file.c - see seeded_file.h. */
#include "seeded_file.h"

#include "io/tensors.h"

typedef struct filler {
    cn_ctx *ctx;
    const json_t *tensors;
    const char *salt;
} filler;

static int64_t shape_of(const json_t *entry, int64_t shape[CN_MAX_DIMS])
{
    const json_t *list = json_object_get(entry, "shape");
    int64_t n = 1;
    for (size_t i = 0; i < json_array_size(list) && i < CN_MAX_DIMS; i++)
        n *= shape[i] = json_integer_value(json_array_get(list, i));
    return n;
}

static cn_status fill(void *user, int64_t i, float *out)
{
    const filler *f = user;
    const json_t *entry = json_array_get(f->tensors, (size_t)i);
    int64_t shape[CN_MAX_DIMS];
    char key[512];
    CN_TRY(cn_format(f->ctx, key, sizeof key, "%s%s", f->salt,
                     cn_json_str(entry, "key", cn_json_str(entry, "name", ""))));
    cn_seed_tensor(key, (float)cn_json_number(entry, "offset", 0),
                   (float)cn_json_number(entry, "scale", 0), out, shape_of(entry, shape));
    return CN_OK;
}

cn_status seeded_file_write(cn_ctx *ctx, const json_t *manifest, const char *salt, cn_dtype dtype,
                            const char *path)
{
    const json_t *tensors = json_object_get(manifest, "tensors");
    size_t n = json_array_size(tensors);
    cn_tensor_out *list = cn_alloc0(ctx, (n + 1) * sizeof *list);
    if (!list) return CN_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(tensors, i);
        list[i].name = cn_json_str(entry, "name", "");
        list[i].dtype = dtype;
        list[i].ndim = (int)json_array_size(json_object_get(entry, "shape"));
        shape_of(entry, list[i].shape);
    }
    filler f = {ctx, tensors, salt};
    cn_status s = cn_safetensors_write(ctx, path, list, (int64_t)n, fill, &f, NULL);
    cn_free(list);
    return s;
}
