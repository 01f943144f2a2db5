/* SPDX-License-Identifier: Apache-2.0 */
/* weights_save.c - writes networks in the published layouts.
 *
 * Every file is written beside its place and renamed, and a folder's config.json goes last, so a
 * reader never sees half a file. Folder layout: what diffusers' from_pretrained reads.
 */
#include "model/checkpoint/base_parts.h"

#include <string.h>

/* --- one file of parameters ------------------------------------------------------------------- */

cn_status cn_save_dtype_check(cn_ctx *ctx, cn_dtype dtype)
{
    if (dtype == CN_F32 || dtype == CN_F16 || dtype == CN_BF16) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "weights are saved as F32, F16 or BF16, not %s",
                   cn_dtype_name(dtype));
}

enum { FULL_NAME_BYTES = CN_NAME_MAX + 64 };

enum { MAX_MERGED = 4, MAX_METADATA = 16 };

/* A tensor to write and the parameters it is made of, one behind the other. */
typedef struct entry {
    char name[FULL_NAME_BYTES];
    int64_t param[MAX_MERGED], elements; /* numbers in the order of the sets; of one part */
    int n;
    int64_t rows; /* of a parameter that is written as its transposed matrix; 0: as it is */
} entry;

typedef struct writer {
    cn_ctx *ctx;
    entry *entries;
    cn_tensor_out *list;
    int64_t n;
    cn_tensor_fill fill;
    void *user;
} writer;

static cn_status fill_transposed(const writer *w, const entry *e, float *out)
{
    float *values = cn_alloc_array(w->ctx, (size_t)e->elements, sizeof *values);
    const cn_status s = values ? w->fill(w->user, e->param[0], values) : CN_ENOMEM;
    if (s == CN_OK) cn_transpose(values, e->rows, e->elements / e->rows, out);
    cn_free(values);
    return s;
}

static cn_status fill_entry(void *user, int64_t i, float *out)
{
    const writer *w = user;
    const entry *e = &w->entries[i];
    if (e->rows) return fill_transposed(w, e, out);
    for (int k = 0; k < e->n; k++) CN_TRY(w->fill(w->user, e->param[k], out + k * e->elements));
    return CN_OK;
}

/* Puts a further part of a tensor that the single-file layout has in one piece to its first. */
static cn_status add_part(writer *w, const char *name, int64_t number, int part)
{
    for (int64_t i = w->n; i-- > 0;) {
        entry *e = &w->entries[i];
        if (strcmp(e->name, name) != 0) continue;
        if (part >= MAX_MERGED || part != e->n) break;
        e->param[e->n++] = number;
        return CN_OK;
    }
    return cn_fail(w->ctx, CN_EINTERNAL, "%s: its parts are out of order", name);
}

static cn_status describe(writer *w, const cn_part *part, const cn_param *q, int64_t number,
                          cn_layout layout, cn_dtype dtype)
{
    char name[FULL_NAME_BYTES];
    cn_place at;
    const char *own = layout == CN_LAYOUT_LDM ? q->ldm_name : q->diffusers_name;
    const size_t len = cn_name_place(own, &at);
    CN_TRY(cn_format(w->ctx, name, sizeof name, "%s%.*s", part->prefix, (int)len, own));
    if (at.part > 0) return add_part(w, name, number, at.part);
    entry *e = &w->entries[w->n];
    cn_tensor_out *t = &w->list[w->n++];
    memcpy(e->name, name, sizeof name);
    e->param[0] = number;
    e->n = 1;
    e->elements = cn_param_elements(q);
    e->rows = at.transposed ? q->shape[0] : 0;
    *t = (cn_tensor_out){.name = e->name, .dtype = dtype, .ndim = q->ndim};
    memcpy(t->shape, q->shape, (size_t)q->ndim * sizeof *q->shape);
    if (layout == CN_LAYOUT_LDM && q->ldm_conv && q->ndim == 2) {
        t->ndim = 4;
        t->shape[2] = t->shape[3] = 1;
    }
    t->shape[0] *= at.parts;
    if (at.transposed) {
        t->shape[0] = q->shape[1];
        t->shape[1] = q->shape[0];
    }
    return CN_OK;
}

/* Keys and values, those of the caller of a save behind the file's own. */
static void list_metadata(const cn_remarks *remarks, const char *out[MAX_METADATA + 1])
{
    static const char *const format[] = {"format", "pt", NULL};
    const char *const *const lists[] = {remarks && remarks->metadata ? remarks->metadata : format,
                                        remarks ? remarks->more : NULL};
    int n = 0;
    for (size_t k = 0; k < CN_COUNT(lists); k++)
        for (int i = 0; lists[k] && lists[k][i] && n < MAX_METADATA; i++) out[n++] = lists[k][i];
    out[n] = NULL;
}

cn_status cn_parts_write(cn_ctx *ctx, const char *path, const cn_part *parts, int n_parts,
                         cn_layout layout, const cn_remarks *remarks, const cn_values *values)
{
    const cn_dtype dtype = values->dtype;
    const char *metadata[MAX_METADATA + 1];
    int64_t n = 0, k = 0;
    cn_status s = cn_save_dtype_check(ctx, dtype);
    if (s != CN_OK) return s;
    list_metadata(remarks, metadata);
    for (int i = 0; i < n_parts; i++) n += cn_params_count(parts[i].params);
    writer w = {.ctx = ctx, .fill = values->fill, .user = values->user};
    w.list = cn_alloc_array(ctx, (size_t)n + CN_MAX_MARKS, sizeof *w.list);
    w.entries = cn_alloc_array(ctx, (size_t)n + 1, sizeof *w.entries);
    s = w.list && w.entries ? CN_OK : CN_ENOMEM;
    for (int i = 0; i < n_parts; i++)
        for (int64_t j = 0; s == CN_OK && j < cn_params_count(parts[i].params); j++, k++)
            s = describe(&w, &parts[i], cn_params_at(parts[i].params, j), k, layout, dtype);
    for (int i = 0; s == CN_OK && remarks && i < CN_MAX_MARKS; i++)
        if (remarks->marks[i])
            w.list[w.n++] = (cn_tensor_out){.name = remarks->marks[i], .dtype = dtype, .ndim = 1};
    if (s == CN_OK) s = cn_safetensors_write(ctx, path, w.list, w.n, fill_entry, &w, metadata);
    cn_free(w.entries);
    cn_free(w.list);
    return s;
}

typedef struct memory_user {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_params *params;
} memory_user;

static cn_status fill_from_memory(void *user, int64_t i, float *out);

/* What the parameters have in memory. */
static cn_values in_memory(memory_user *u, cn_dtype dtype)
{
    return (cn_values){dtype, fill_from_memory, u};
}

static cn_status fill_from_memory(void *user, int64_t i, float *out)
{
    const memory_user *u = user;
    const cn_param *q = cn_params_at(u->params, i);
    if (!q->loaded)
        return cn_fail(u->ctx, CN_EINVAL, "%s: %s has no values to save",
                       cn_params_network(u->params), q->diffusers_name);
    return cn_param_get(u->be, u->ctx, q, out);
}

cn_status cn_params_write(cn_ctx *ctx, cn_backend *be, const cn_params *p, cn_layout layout,
                          cn_dtype dtype, const cn_remarks *remarks, const char *path)
{
    const cn_part part = {p, ""};
    memory_user u = {ctx, be, p};
    const cn_values values = in_memory(&u, dtype);
    return cn_parts_write(ctx, path, &part, 1, layout, remarks, &values);
}

cn_status cn_params_save(cn_ctx *ctx, cn_backend *be, const cn_params *p, cn_dtype dtype,
                         const char *file)
{
    return cn_params_write(ctx, be, p, CN_LAYOUT_DIFFUSERS, dtype, NULL, file);
}

/* --- folders ---------------------------------------------------------------------------------- */

cn_status cn_subdir(cn_ctx *ctx, const char *dir, const char *name, char out[CN_PATH_BYTES])
{
    CN_TRY(cn_format(ctx, out, CN_PATH_BYTES, "%s/%s", dir, name));
    return cn_dir_make(ctx, out);
}

cn_status cn_config_save(cn_ctx *ctx, const char *dir, const char *name, json_t *json)
{
    char path[CN_PATH_BYTES];
    if (!json) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s/%s", dir, name);
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", dir, name);
    if (s == CN_OK) s = cn_json_save_file(ctx, path, json);
    json_decref(json);
    return s;
}

cn_status cn_control_save_folder(cn_ctx *ctx, cn_backend *be, const cn_controlnet_config *c,
                                 const cn_params *p, cn_dtype dtype, const char *dir,
                                 const char *const *more)
{
    const cn_remarks remarks = {.more = more};
    char path[CN_PATH_BYTES];
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(
        cn_format(ctx, path, sizeof path, "%s/%s", dir, cn_net_kind_of(CN_NET_CONTROL)->weights));
    CN_TRY(cn_params_write(ctx, be, p, CN_LAYOUT_DIFFUSERS, dtype, &remarks, path));
    return cn_config_save(ctx, dir, "config.json", cn_controlnet_config_json(c));
}

cn_status cn_control_save_single(cn_ctx *ctx, cn_backend *be, const cn_controlnet_config *c,
                                 const cn_params *p, cn_dtype dtype, const char *file,
                                 const char *const *more)
{
    memory_user u = {ctx, be, p};
    const cn_values values = in_memory(&u, dtype);
    return cn_control_single_write(ctx, file, c, p, more, &values);
}

/* --- base folders ----------------------------------------------------------------------------- */

static cn_status copy_file(cn_ctx *ctx, const char *from, const char *to_dir, const char *name)
{
    char to[CN_PATH_BYTES], *data = NULL;
    size_t n = 0;
    CN_TRY(cn_format(ctx, to, sizeof to, "%s/%s", to_dir, name));
    CN_TRY(cn_file_read(ctx, from, CN_JSON_MAX_BYTES, &data, &n));
    cn_status s = cn_file_write(ctx, to, data, n);
    cn_free(data);
    return s;
}

/* Those of a tokenizer's files that the folder has; how many goes to *copied. */
static cn_status copy_tokenizer_files(cn_ctx *ctx, const char *from, const char *to, int *copied)
{
    static const char *const names[] = {"vocab.json",
                                        "merges.txt",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "tokenizer.json",
                                        "added_tokens.json",
                                        "bpe_simple_vocab_16e6.txt.gz"};
    char path[CN_PATH_BYTES];
    *copied = 0;
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        if (!cn_file_in(from, names[i])) continue;
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", from, names[i]));
        CN_TRY(copy_file(ctx, path, to, names[i]));
        (*copied)++;
    }
    return CN_OK;
}

/* What transformers needs beside vocabulary and merges, where the source folder has none. */
static cn_status write_tokenizer_config(cn_ctx *ctx, const char *dir, int64_t max_length)
{
    const char *end = "<|endoftext|>";
    return cn_config_save(
        ctx, dir, "tokenizer_config.json",
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:s}", "bos_token", "<|startoftext|>",
                  "eos_token", end, "pad_token", end, "unk_token", end, "model_max_length",
                  (json_int_t)max_length, "do_lower_case", 1, "tokenizer_class", "CLIPTokenizer"));
}

cn_status cn_tokenizer_copy(cn_ctx *ctx, const char *from, const char *dir, const char *name,
                            int64_t max_length)
{
    char to[CN_PATH_BYTES];
    int copied = 1;
    CN_TRY(cn_subdir(ctx, dir, name, to));
    if (cn_dir_exists(from))
        CN_TRY(copy_tokenizer_files(ctx, from, to, &copied));
    else
        CN_TRY(copy_file(
            ctx, from, to,
            cn_tokenizer_is_json(from) ? CN_TOKENIZER_JSON : "bpe_simple_vocab_16e6.txt.gz"));
    if (!copied)
        return cn_fail(ctx, CN_EINVAL,
                       "%s: holds no tokenizer; vocab.json and merges.txt, or " CN_TOKENIZER_JSON
                       ", are expected",
                       from);
    return cn_file_in(to, "tokenizer_config.json") ? CN_OK
                                                   : write_tokenizer_config(ctx, to, max_length);
}

/* A part of the pipeline, where the folder holds `file` of it; false when memory is out. */
static bool add_part_of(json_t *index, const char *dir, const char *name, const char *file,
                        const char *library, const char *class)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", name, file);
    return !cn_file_in(dir, path) ||
           json_object_set_new(index, name, json_pack("[s,s]", library, class)) == 0;
}

/* model_index.json names what the folder holds by now; optional parts of the pipeline are null. */
static cn_status write_index(cn_ctx *ctx, const cn_base *b, const char *dir)
{
    const cn_family *f = cn_family_of(b);
    json_t *index = json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:b}", "_class_name", f->pipeline,
                              "_diffusers_version", "0.31.0", "feature_extractor", "safety_checker",
                              "requires_safety_checker", 0);
    bool good = index != NULL;
    if (good && f->added_numbers == 5)
        good = json_object_set_new(index, "requires_aesthetics_score", json_true()) == 0;
    if (good && f->zeros_for_no_negative)
        good = json_object_set_new(index, "force_zeros_for_empty_prompt",
                                   json_boolean(b->zeros_for_no_negative)) == 0;
    for (int i = 0; good && i < f->n_nets; i++) {
        const cn_net_kind *n = cn_base_kind_of(b, f->nets[i].net);
        good = add_part_of(index, dir, n->name, "config.json", n->library, n->class);
    }
    for (int k = 0; good && k < f->n_text; k++)
        good = add_part_of(index, dir, cn_base_kind_of(b, cn_net_text(k))->tokenizer,
                           "tokenizer_config.json", "transformers", "CLIPTokenizer");
    good = good && add_part_of(index, dir, "scheduler", "scheduler_config.json", "diffusers",
                               "DDIMScheduler");
    if (!good) {
        json_decref(index);
        index = NULL;
    }
    return cn_config_save(ctx, dir, "model_index.json", index);
}

json_t *cn_base_network_json(const cn_base *b, cn_net net)
{
    return cn_net_kind_of(net)->write(b, cn_base_config_of(b, net));
}

cn_status cn_base_network_write(cn_ctx *ctx, const cn_base *c, const cn_params *p,
                                const cn_values *values, const char *dir)
{
    const cn_net net = cn_params_net(p);
    const cn_net_kind *n = cn_base_kind_of(c, net);
    char sub[CN_PATH_BYTES], path[CN_PATH_BYTES];
    cn_part part = {p, ""};
    CN_TRY(cn_subdir(ctx, dir, n->name, sub));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", sub, n->weights));
    CN_TRY(cn_parts_write(ctx, path, &part, 1, CN_LAYOUT_DIFFUSERS, NULL, values));
    return cn_config_save(ctx, sub, "config.json", cn_base_network_json(c, net));
}

cn_status cn_base_write_configs(cn_ctx *ctx, const cn_base *c, const char *tokenizer_dir,
                                const char *dir)
{
    char sub[CN_PATH_BYTES];
    CN_TRY(cn_subdir(ctx, dir, "scheduler", sub));
    CN_TRY(
        cn_config_save(ctx, sub, "scheduler_config.json", cn_schedule_config_json(&c->schedule)));
    for (int k = 0; tokenizer_dir && k < cn_family_of(c)->n_text; k++)
        CN_TRY(cn_tokenizer_copy(ctx, tokenizer_dir, dir,
                                 cn_base_kind_of(c, cn_net_text(k))->tokenizer,
                                 c->text[k].max_positions));
    return write_index(ctx, c, dir);
}

cn_status cn_base_save_folder(cn_ctx *ctx, cn_backend *be, const cn_base *config,
                              const cn_params *const *networks, int n, const cn_base_target *to)
{
    CN_TRY(cn_dir_make(ctx, to->path));
    for (int i = 0; i < n; i++) {
        memory_user u = {ctx, be, networks[i]};
        const cn_values values = in_memory(&u, to->dtype);
        CN_TRY(cn_base_network_write(ctx, config, networks[i], &values, to->path));
    }
    return cn_base_write_configs(ctx, config, to->tokenizer_dir, to->path);
}
