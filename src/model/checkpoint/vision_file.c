/* SPDX-License-Identifier: Apache-2.0 */
/* vision_file.c - see vision_file.h. */
#include "model/checkpoint/vision_file.h"

#include <string.h>

#define PREPROCESSOR "preprocessor_config.json"

static cn_status read_config(cn_ctx *ctx, const json_t *json, void *out)
{
    return cn_vision_config_read(ctx, json, out);
}

static cn_status read_preprocessor(cn_ctx *ctx, const json_t *json, void *out)
{
    return cn_vision_preprocessor_read(ctx, json, out);
}

static cn_status read_configs(cn_ctx *ctx, const char *dir, cn_vision_config *c)
{
    CN_TRY(cn_config_read_in(ctx, dir, "config.json", read_config, c));
    if (!cn_file_in(dir, PREPROCESSOR)) return CN_OK;
    return cn_config_read_in(ctx, dir, PREPROCESSOR, read_preprocessor, c);
}

static cn_status check_content(cn_ctx *ctx, const cn_vision_file *v)
{
    const cn_content content = cn_content_of(v->file);
    if (cn_tensors_have_prefix(v->file, "vision_model.")) return CN_OK;
    if (content == CN_HOLDS_VISION)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: holds a CLIP vision encoder with OpenCLIP's names; transformers' "
                       "(vision_model.) are read",
                       v->path);
    return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s%s, a CLIP vision encoder is expected", v->path,
                   cn_content_name(content), cn_content_note(content));
}

static cn_status open_folder(cn_ctx *ctx, const char *path, cn_vision_file *v)
{
    char dir[CN_PATH_BYTES];
    const bool inside = cn_file_in(path, "image_encoder/config.json");
    if (!inside && !cn_file_in(path, "config.json"))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: holds no image encoder: config.json and model.safetensors are "
                       "expected, or image_encoder/ with them",
                       path);
    CN_TRY(cn_format(ctx, dir, sizeof dir, "%s%s", path, inside ? "/image_encoder" : ""));
    CN_TRY(read_configs(ctx, dir, &v->config));
    CN_TRY(cn_weights_open(ctx, dir, v->path, &v->file));
    return check_content(ctx, v);
}

static cn_status open_file(cn_ctx *ctx, const char *path, cn_vision_file *v)
{
    char dir[CN_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    CN_TRY(cn_format(ctx, v->path, sizeof v->path, "%s", path));
    CN_TRY(cn_tensors_open(ctx, path, &v->file));
    CN_TRY(check_content(ctx, v));
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (cn_file_in(dir, "config.json") && read_configs(NULL, dir, &v->config) == CN_OK)
        return CN_OK;
    const cn_status s = cn_vision_config_from_shapes(ctx, v->file, "", &v->config);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}

cn_status cn_vision_file_open(cn_ctx *ctx, const char *path, cn_vision_file **out)
{
    cn_vision_file *v = cn_alloc0(ctx, sizeof *v);
    if (!v) return CN_ENOMEM;
    cn_status s = cn_ranges_create(ctx, &v->ranges);
    if (s == CN_OK) s = cn_dir_exists(path) ? open_folder(ctx, path, v) : open_file(ctx, path, v);
    if (s != CN_OK) {
        cn_vision_file_close(v);
        return s;
    }
    *out = v;
    return CN_OK;
}

void cn_vision_file_close(cn_vision_file *v)
{
    if (!v) return;
    cn_ranges_destroy(v->ranges);
    cn_tensors_close(v->file);
    cn_free(v);
}

static cn_source source_of(const cn_vision_file *v)
{
    return (cn_source){
        .file = v->file, .path = v->path, .prefix = "", .layout = CN_LAYOUT_DIFFUSERS};
}

cn_dtype cn_vision_file_dtype(const cn_vision_file *v)
{
    const cn_source s = source_of(v);
    return cn_source_dtype(&s);
}

cn_status cn_vision_file_keep_ranges(cn_ctx *ctx, const cn_vision_file *v, cn_params *p)
{
    const cn_source s = source_of(v);
    cn_params *declared = NULL;
    if (!cn_ranges_matter(&s, cn_params_storage(p))) return CN_OK;
    CN_TRY(cn_net_declare(ctx, CN_NET_VISION, &v->config, &declared));
    const cn_status status = cn_ranges_apply(ctx, v->ranges, &s, declared, p);
    cn_params_destroy(declared);
    return status;
}

cn_status cn_vision_file_load(cn_ctx *ctx, const cn_vision_file *v, cn_backend *be, cn_params *p)
{
    const cn_source s = source_of(v);
    return cn_source_load(ctx, &s, be, p);
}
