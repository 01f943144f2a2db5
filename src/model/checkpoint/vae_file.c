/* SPDX-License-Identifier: Apache-2.0 */
/* vae_file.c - a base model's VAE from elsewhere: a VAE's file or folder, or another base model.
 *
 * As with the other networks of single files, shapes tell the widths where no configuration does.
 * The scaling factor isn't in the shapes; it stays the base's family's.
 */
#include "model/checkpoint/base_parts.h"

#include <string.h>

#define FIRST_STAGE "first_stage_model."

static cn_status read_folder_config(cn_ctx *ctx, const char *dir, cn_vae_config *out)
{
    json_t *json = NULL;
    CN_TRY(cn_config_load(ctx, dir, "config.json", &json));
    const cn_status s = cn_vae_config_read(ctx, json, out);
    json_decref(json);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s/config.json", dir);
}

/* A VAE's own folder, or vae/ of a base model's. */
static cn_status open_folder(cn_ctx *ctx, const char *path, cn_vae_file *v)
{
    char dir[CN_PATH_BYTES];
    const bool whole = cn_file_in(path, "vae/config.json");
    if (!whole && !cn_file_in(path, "config.json"))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: holds no VAE: config.json and weights are expected, or vae/ with them",
                       path);
    CN_TRY(cn_format(ctx, dir, sizeof dir, "%s%s", path, whole ? "/vae" : ""));
    CN_TRY(read_folder_config(ctx, dir, &v->config));
    CN_TRY(cn_weights_open(ctx, dir, v->path, &v->file));
    v->prefix = "";
    v->layout = CN_LAYOUT_DIFFUSERS;
    return CN_OK;
}

/* The config.json beside a file with diffusers' names, if it is a VAE's. */
static bool config_beside(const char *path, cn_vae_config *out)
{
    char dir[CN_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    return cn_file_in(dir, "config.json") && read_folder_config(NULL, dir, out) == CN_OK;
}

static cn_status take_said(cn_ctx *ctx, cn_vae_file *v, bool *found)
{
    json_t *said = NULL;
    CN_TRY(cn_said_config(ctx, v->file, &said));
    const json_t *own = json_object_get(said, cn_net_kind_of(CN_NET_VAE)->name);
    *found = own != NULL;
    const cn_status s = own ? cn_vae_config_read(ctx, own, &v->config) : CN_OK;
    json_decref(said);
    return s;
}

static cn_status open_file(cn_ctx *ctx, const char *path, cn_vae_file *v)
{
    bool said = false;
    CN_TRY(cn_format(ctx, v->path, sizeof v->path, "%s", path));
    CN_TRY(cn_tensors_open(ctx, path, &v->file));
    const cn_content content = cn_content_of(v->file);
    const bool staged = cn_tensors_have_prefix(v->file, FIRST_STAGE);
    if (!staged && content != CN_HOLDS_VAE && content != CN_HOLDS_VAE_DIFFUSERS)
        return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s%s, a VAE is expected", path,
                       cn_content_name(content), cn_content_note(content));
    v->prefix = staged ? FIRST_STAGE : "";
    v->layout = content == CN_HOLDS_VAE_DIFFUSERS ? CN_LAYOUT_DIFFUSERS : CN_LAYOUT_LDM;
    if (v->layout == CN_LAYOUT_DIFFUSERS && config_beside(path, &v->config)) return CN_OK;
    cn_status s = take_said(ctx, v, &said);
    if (s == CN_OK && !said)
        s = cn_vae_config_from_shapes(ctx, v->file, v->prefix, v->layout, &v->config);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}

cn_status cn_vae_file_open(cn_ctx *ctx, const char *path, cn_vae_file **out)
{
    cn_vae_file *v = cn_alloc0(ctx, sizeof *v);
    if (!v) return CN_ENOMEM;
    const cn_status s = cn_dir_exists(path) ? open_folder(ctx, path, v) : open_file(ctx, path, v);
    if (s != CN_OK) {
        cn_vae_file_close(v);
        return s;
    }
    *out = v;
    return CN_OK;
}

void cn_vae_file_close(cn_vae_file *v)
{
    if (!v) return;
    cn_tensors_close(v->file);
    cn_free(v);
}
