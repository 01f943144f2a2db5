/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - finds a network's parameters in a file.
 *
 * Names vary more than the two layouts do; what a kind of network was called in files of other ages
 * stands in its row of network_kinds.c.
 */
#include "model/checkpoint/source.h"

#include "model/checkpoint/averages.h"

#include <string.h>

/* --- files ------------------------------------------------------------------------------------ */

bool cn_file_in(const char *dir, const char *name)
{
    char path[CN_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && cn_file_exists(path);
}

/* The files that an index names, each once, in *files (strings of `index`). */
static cn_status shard_files(cn_ctx *ctx, const json_t *index, const char *path, json_t **files)
{
    const char *tensor;
    json_t *file, *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || !json_object_size(map))
        return cn_fail(ctx, CN_EFORMAT, "%s: \"weight_map\" must name each tensor's file", path);
    if (!(*files = json_object())) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
    json_object_foreach(map, tensor, file)
    {
        const char *name = json_string_value(file);
        if (!name || !name[0] || strchr(name, '/'))
            return cn_fail(ctx, CN_EFORMAT,
                           "%s: the file of %.200s must be a name in the same folder", path,
                           tensor);
        if (json_object_set(*files, name, file))
            return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
    }
    if (json_object_size(*files) > 1000)
        return cn_fail(ctx, CN_EFORMAT, "%s: names %zu files; at most 1000 are read", path,
                       json_object_size(*files));
    return CN_OK;
}

static cn_status open_shards(cn_ctx *ctx, const char *dir, const char *path, const json_t *files,
                             cn_tensors **out)
{
    int n = 0;
    const char *name;
    json_t *unused;
    char file[CN_PATH_BYTES];
    cn_tensors **parts = cn_alloc_array(ctx, json_object_size(files), sizeof(cn_tensors *));
    cn_status s = parts ? CN_OK : CN_ENOMEM;
    json_object_foreach((json_t *)(uintptr_t)files, name, unused)
    {
        (void)unused;
        if (s == CN_OK) s = cn_format(ctx, file, sizeof file, "%s/%s", dir, name);
        if (s == CN_OK) s = cn_tensors_open(ctx, file, &parts[n]);
        if (s == CN_OK) n++;
    }
    if (s == CN_OK) {
        s = cn_tensors_join(ctx, parts, n, out);
        if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", path);
    } else {
        for (int i = 0; i < n; i++) cn_tensors_close(parts[i]);
    }
    cn_free(parts);
    return s;
}

static cn_status open_index(cn_ctx *ctx, const char *dir, const char *path, cn_tensors **out)
{
    json_t *index = NULL, *files = NULL;
    CN_TRY(cn_json_load_file(ctx, path, &index));
    cn_status s = shard_files(ctx, index, path, &files);
    if (s == CN_OK) s = open_shards(ctx, dir, path, files, out);
    json_decref(files);
    json_decref(index);
    return s;
}

cn_status cn_weights_open(cn_ctx *ctx, const char *dir, char path[CN_PATH_BYTES], cn_tensors **out)
{
    static const char *const names[] = {"diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.fp16.safetensors",
                                        "model.safetensors",
                                        "model.fp16.safetensors",
                                        "diffusion_pytorch_model.safetensors.index.json",
                                        "model.safetensors.index.json",
                                        "diffusion_pytorch_model.bin",
                                        "diffusion_pytorch_model.fp16.bin",
                                        "pytorch_model.bin",
                                        "pytorch_model.fp16.bin",
                                        "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        if (!cn_file_in(dir, names[i])) continue;
        CN_TRY(cn_format(ctx, path, CN_PATH_BYTES, "%s/%s", dir, names[i]));
        return strstr(names[i], ".index.json") ? open_index(ctx, dir, path, out)
                                               : cn_tensors_open(ctx, path, out);
    }
    return cn_fail(ctx, CN_EIO, "%s: holds no weights; %s or %s is expected", dir, names[0],
                   names[2]);
}

cn_status cn_config_load(cn_ctx *ctx, const char *dir, const char *name, json_t **out)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, name));
    return cn_json_load_file(ctx, path, out);
}

cn_status cn_config_read_in(cn_ctx *ctx, const char *dir, const char *name, cn_config_reader *read,
                            void *out)
{
    json_t *json = NULL;
    CN_TRY(cn_config_load(ctx, dir, name, &json));
    const cn_status s = read(ctx, json, out);
    json_decref(json);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s/%s", dir, name);
}

cn_status cn_said_config(cn_ctx *ctx, const cn_tensors *t, json_t **out)
{
    const char *text = cn_tensors_metadata(t, CN_META_CONFIG);
    *out = NULL;
    if (!text) return CN_OK;
    return cn_json_load_memory(ctx, "metadata " CN_META_CONFIG, text, strlen(text), out);
}

/* --- parameters in a file --------------------------------------------------------------------- */

static const cn_tensor_info *lookup(const cn_source *s, const char *name)
{
    return cn_tensors_find_in(s->file, s->prefix, name);
}

size_t cn_name_place(const char *name, cn_place *at)
{
    const char *open = strrchr(name, '[');
    *at = (cn_place){.parts = 1, .transposed = open && !strcmp(open, "[T]")};
    if (at->transposed || (open && sscanf(open, "[%d:%d]", &at->part, &at->parts) == 2))
        return (size_t)(open - name);
    return strlen(name);
}

void cn_transpose(const float *in, int64_t rows, int64_t columns, float *out)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) out[c * rows + r] = in[r * columns + c];
}

cn_place cn_source_find(const cn_source *s, cn_net net, const cn_param *q)
{
    char name[CN_NAME_MAX], other[CN_NAME_MAX];
    cn_place at;
    const char *whole = s->layout == CN_LAYOUT_DIFFUSERS ? q->diffusers_name : q->ldm_name;
    size_t n = cn_name_place(whole, &at);
    snprintf(name, sizeof name, "%.*s", (int)n, whole);
    at.tensor = lookup(s, name);
    if (!at.tensor && cn_net_renamed(net, name, s->layout, other)) at.tensor = lookup(s, other);
    return at;
}

static int significant_dims(int ndim, const int64_t *shape)
{
    while (ndim > 0 && shape[ndim - 1] == 1) ndim--;
    return ndim;
}

bool cn_place_fits(const cn_place *at, const cn_param *q)
{
    const cn_tensor_info *t = at->tensor;
    int n = significant_dims(q->ndim, q->shape);
    if (at->transposed)
        return t->ndim == 2 && q->ndim == 2 && t->shape[0] == q->shape[1] &&
               t->shape[1] == q->shape[0];
    if (at->parts > 1 ? t->ndim != q->ndim : significant_dims(t->ndim, t->shape) != n) return false;
    for (int i = 0; i < n; i++)
        if (q->shape[i] * (i ? 1 : at->parts) != t->shape[i]) return false;
    return true;
}

static cn_status read_transposed(cn_ctx *ctx, const cn_source *s, const cn_tensor_info *t,
                                 float *out)
{
    float *values = cn_alloc_array(ctx, (size_t)t->elements, sizeof *values);
    const cn_status status = values ? cn_tensors_read(ctx, s->file, t, values) : CN_ENOMEM;
    if (status == CN_OK) cn_transpose(values, t->shape[0], t->shape[1], out);
    cn_free(values);
    return status;
}

cn_status cn_place_read(cn_ctx *ctx, const cn_source *s, const cn_place *at, float *out)
{
    if (at->transposed) return read_transposed(ctx, s, at->tensor, out);
    if (at->parts == 1) return cn_tensors_read(ctx, s->file, at->tensor, out);
    int64_t rows = at->tensor->shape[0] / at->parts;
    return cn_tensors_read_rows(ctx, s->file, at->tensor, at->part * rows, rows, out);
}

static void add_shape(cn_str *s, int ndim, const int64_t *shape)
{
    cn_str_adds(s, "[");
    for (int i = 0; i < ndim; i++) cn_str_addf(s, "%s%lld", i ? "," : "", (long long)shape[i]);
    cn_str_adds(s, "]");
}

/* What is wrong with a file: first three by name, then a number. */
typedef struct complaint {
    cn_str list;
    int64_t n;
} complaint;

static void complain(complaint *c, const cn_source *s, const cn_param *q, const cn_place *at)
{
    const cn_tensor_info *t = at->tensor;
    if (c->n++ >= 3) return;
    const char *name = s->layout == CN_LAYOUT_LDM ? q->ldm_name : q->diffusers_name;
    cn_str_addf(&c->list, "%s%s%s", c->n > 1 ? ", " : "", t ? "" : s->prefix, t ? t->name : name);
    if (!t) {
        char full[CN_NAME_MAX + 128];
        snprintf(full, sizeof full, "%s%s", s->prefix, name);
        const char *why = cn_tensors_skipped_why(s->file, full);
        if (why) cn_str_addf(&c->list, " (it has %s, which is not read here)", why);
        return;
    }
    cn_str_adds(&c->list, " ");
    add_shape(&c->list, t->ndim, t->shape);
    cn_str_adds(&c->list, " instead of ");
    add_shape(&c->list, q->ndim, q->shape);
    if (at->parts > 1) cn_str_addf(&c->list, " %d times", at->parts);
    if (at->transposed) cn_str_adds(&c->list, " transposed");
}

static cn_status report(cn_ctx *ctx, const cn_source *s, const cn_params *p, complaint *c,
                        const char *what)
{
    char more[48] = "";
    if (c->n > 3) snprintf(more, sizeof more, " and %lld more", (long long)(c->n - 3));
    return cn_fail(ctx, CN_EMISMATCH, "%s: %lld tensor%s %s %s: %s%s", cn_params_network(p),
                   (long long)c->n, c->n == 1 ? "" : "s", what, s->path,
                   c->list.data ? c->list.data : "", more);
}

cn_status cn_source_resolve(cn_ctx *ctx, const cn_source *s, const cn_params *p, cn_place **out)
{
    int64_t n = cn_params_count(p);
    const cn_net net = cn_params_net(p);
    complaint missing = {0}, misshapen = {0};
    cn_place *list = cn_alloc0(ctx, ((size_t)n + 1) * sizeof *list);
    if (!list) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const cn_param *q = cn_params_at(p, i);
        if (q->derived) continue; /* its rule finds what it reads */
        list[i] = cn_source_find(s, net, q);
        if (!list[i].tensor)
            complain(&missing, s, q, &list[i]);
        else if (!cn_place_fits(&list[i], q))
            complain(&misshapen, s, q, &list[i]);
    }
    cn_status status = CN_OK;
    if (missing.n)
        status = report(ctx, s, p, &missing, "missing from");
    else if (misshapen.n)
        status = report(ctx, s, p, &misshapen, "of another shape in");
    cn_str_free(&missing.list);
    cn_str_free(&misshapen.list);
    if (status != CN_OK) {
        cn_free(list);
        return status;
    }
    *out = list;
    return CN_OK;
}

/* What a file's type is kept as: 8 bits and fewer fit into F16, most of them exactly. */
static cn_dtype kept_as(cn_dtype in_file)
{
    if (in_file == CN_F32 || in_file == CN_BF16 || in_file == CN_F16) return in_file;
    const bool small = in_file == CN_F8_E4M3 || in_file == CN_F8_E5M2 || in_file > CN_DTYPE_COUNT;
    return small ? CN_F16 : CN_DTYPE_COUNT;
}

cn_dtype cn_source_dtype(const cn_source *s)
{
    static const cn_dtype types[] = {CN_F32, CN_F16, CN_BF16};
    int64_t elements[CN_COUNT(types)] = {0};
    size_t most = 0;
    const char *prefix = s->prefix;
    if (!strcmp(prefix, CN_PREFIX_UNET) && cn_tensors_ema_only(s->file)) prefix = CN_PREFIX_EMA;
    const size_t n = strlen(prefix);
    for (int64_t i = 0; i < cn_tensors_count(s->file); i++) {
        const cn_tensor_info *t = cn_tensors_at(s->file, i);
        if (strncmp(t->name, prefix, n) != 0) continue;
        for (size_t k = 0; k < CN_COUNT(types); k++)
            if (kept_as(t->dtype) == types[k]) elements[k] += t->elements;
    }
    for (size_t k = 1; k < CN_COUNT(types); k++)
        if (elements[k] > elements[most]) most = k;
    return types[most];
}

static bool read_at_once(const cn_source *s, const cn_params *p, const cn_param *q)
{
    if (s->plus && cn_source_find(s->plus, CN_NET_UNET, q).tensor) return false;
    return !s->loras || !cn_lora_changes(s->loras, cn_params_net(p), q);
}

/* What was merged in or expanded from blocks is known only now, and the type is chosen. */
static cn_status check_range(cn_ctx *ctx, const cn_source *s, const cn_param *q, const float *plain)
{
    const float most = cn_largest(CN_F32, plain, (size_t)cn_param_elements(q));
    if (most < cn_dtype_limit(q->dtype)) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH,
                   "%s: %s has a value of %g, beyond the range of %s; keep weights as f32 or "
                   "bf16%s",
                   s->path, q->diffusers_name, (double)most, cn_weight_type_word(q->dtype),
                   s->loras && s->loras->n ? ", or give the LoRAs less weight" : "");
}

static cn_status add_plus(cn_ctx *ctx, const cn_source *plus, const cn_param *q, float *plain)
{
    const cn_place at = cn_source_find(plus, CN_NET_UNET, q);
    const int64_t n = cn_param_elements(q);
    if (!at.tensor) return CN_OK;
    if (!cn_place_fits(&at, q))
        return cn_fail(ctx, CN_EMISMATCH, "%s: %s is of another shape than what is added to it",
                       plus->path, at.tensor->name);
    float *values = cn_alloc_array(ctx, (size_t)n, sizeof *values);
    cn_status s = values ? cn_place_read(ctx, plus, &at, values) : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < n; i++) plain[i] += values[i];
    cn_free(values);
    return s;
}

/* Through floats: what lies in no plain order in the file, is of another type, is a difference, or
 * is changed by a LoRA. */
static cn_status load_changed(cn_ctx *ctx, const cn_source *s, cn_backend *be, const cn_params *p,
                              cn_param *q, const cn_place *at)
{
    float *plain = cn_alloc_array(ctx, (size_t)cn_param_elements(q), sizeof *plain);
    cn_status status = plain ? cn_place_read(ctx, s, at, plain) : CN_ENOMEM;
    if (status == CN_OK && s->plus) status = add_plus(ctx, s->plus, q, plain);
    if (status == CN_OK && s->loras)
        status = cn_lora_merge(ctx, s->loras, cn_params_net(p), q, plain);
    if (status == CN_OK) status = check_range(ctx, s, q, plain);
    if (status == CN_OK) status = cn_param_set(be, ctx, q, plain);
    cn_free(plain);
    return status;
}

static cn_status load_derived(cn_ctx *ctx, const cn_source *s, cn_backend *be, cn_param *q)
{
    float *plain = cn_alloc_array(ctx, (size_t)cn_param_elements(q), sizeof *plain);
    cn_status status = plain ? q->derived->make(ctx, s, q, plain) : CN_ENOMEM;
    if (status == CN_OK && s->base) status = check_range(ctx, s, q, plain);
    if (status == CN_OK) status = cn_param_set(be, ctx, q, plain);
    cn_free(plain);
    return status;
}

static cn_status load_one(cn_ctx *ctx, const cn_source *s, cn_backend *be, const cn_params *p,
                          cn_param *q, const cn_place *at)
{
    if (q->derived) return load_derived(ctx, s, be, q);
    const cn_tensor_info *t = at->tensor;
    size_t bytes;
    int64_t rows = t->ndim ? t->shape[0] / at->parts : 1;
    const bool at_once = !at->transposed && read_at_once(s, p, q);
    const void *data = at_once ? cn_tensor_rows(t, at->part * rows, rows, &bytes) : NULL;
    if (!data) return load_changed(ctx, s, be, p, q, at);
    CN_TRY(cn_param_set_from(be, ctx, q, t->dtype, data));
    cn_tensors_let_go(s->file, data, bytes);
    return CN_OK;
}

cn_status cn_source_load(cn_ctx *ctx, const cn_source *s, cn_backend *be, cn_params *p)
{
    cn_place *list = NULL;
    CN_TRY(cn_source_resolve(ctx, s, p, &list));
    cn_status status =
        cn_params_set_source(p, s->path, s->prefix, s->layout == CN_LAYOUT_DIFFUSERS);
    if (status == CN_OK) status = cn_params_allocate(be, p);
    for (int64_t i = 0; status == CN_OK && i < cn_params_count(p); i++)
        status = cn_cancelled(ctx)
                     ? cn_fail(ctx, CN_ECANCELLED, "cancelled while loading %s", s->path)
                     : load_one(ctx, s, be, p, cn_params_at(p, i), &list[i]);
    cn_free(list);
    return status;
}
