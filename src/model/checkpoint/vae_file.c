/* SPDX-License-Identifier: Apache-2.0 */
/* vae_file.c - a base model's VAE from elsewhere: a VAE's file or folder, or another base model.
 *
 * As with the other networks of single files, shapes tell the widths where no configuration does.
 * The scaling factor isn't in the shapes; it is then the base's family's.
 */
#include "model/checkpoint/vae_file.h"

#include <string.h>

#define FIRST_STAGE "first_stage_model."

static cn_status read_config(cn_ctx *ctx, const json_t *json, void *out)
{
    return cn_vae_config_read(ctx, json, out);
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
    CN_TRY(cn_config_read_in(ctx, dir, "config.json", read_config, &v->config));
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
    return cn_file_in(dir, "config.json") &&
           cn_config_read_in(NULL, dir, "config.json", read_config, out) == CN_OK;
}

static cn_status read_metadata_config(cn_ctx *ctx, cn_vae_file *v, bool *found)
{
    json_t *said = NULL;
    CN_TRY(cn_said_config(ctx, v->file, &said));
    const json_t *own = json_object_get(said, cn_net_kind_of(CN_NET_VAE)->name);
    *found = own != NULL;
    const cn_status s = own ? cn_vae_config_read(ctx, own, &v->config) : CN_OK;
    json_decref(said);
    return s;
}

/* path with the last "decoder" of its file's name for "encoder", or the other way round; false:
 * there is no such file. */
static bool other_half(const char *path, bool decoder, char *out, size_t cap)
{
    const char *is = decoder ? "decoder" : "encoder", *slash = strrchr(path, '/'), *at = NULL;
    for (const char *p = slash ? slash : path; (p = strstr(p, is)); p++) at = p;
    if (!at) return false;
    const int n = snprintf(out, cap, "%.*s%s%s", (int)(at - path), path,
                           decoder ? "encoder" : "decoder", at + strlen(is));
    return n > 0 && (size_t)n < cap && cn_file_exists(out);
}

/* TAESD as its author publishes it, a file for each half, whose layers are numbered alike. The half
 * that isn't named is taken along where it lies beside. */
static cn_status open_taesd(cn_ctx *ctx, cn_vae_file *v, bool decoder)
{
    const char *const prefixes[] = {decoder ? "decoder." : "encoder.",
                                    decoder ? "encoder." : "decoder."};
    char path[CN_PATH_BYTES];
    cn_tensors *parts[2] = {v->file};
    int n = 1;
    cn_status s = CN_OK;
    v->file = NULL;
    if (other_half(v->path, decoder, path, sizeof path)) {
        s = cn_tensors_open(ctx, path, &parts[1]);
        n += s == CN_OK;
    }
    if (s != CN_OK) {
        cn_tensors_close(parts[0]);
        return s;
    }
    CN_TRY(cn_tensors_join_as(ctx, parts, prefixes, n, &v->file));
    v->prefix = "";
    v->layout = CN_LAYOUT_LDM;
    s = cn_taesd_config_from_shapes(ctx, v->file, v->layout, &v->config);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", v->path);
}

static cn_status open_file(cn_ctx *ctx, const char *path, cn_vae_file *v)
{
    bool said = false;
    CN_TRY(cn_format(ctx, v->path, sizeof v->path, "%s", path));
    CN_TRY(cn_tensors_open(ctx, path, &v->file));
    const cn_content content = cn_content_of(v->file);
    if (content == CN_HOLDS_TAESD_DECODER || content == CN_HOLDS_TAESD_ENCODER)
        return open_taesd(ctx, v, content == CN_HOLDS_TAESD_DECODER);
    const bool tiny = content == CN_HOLDS_TAESD;
    const bool staged = cn_tensors_have_prefix(v->file, FIRST_STAGE);
    if (!staged && !tiny && content != CN_HOLDS_VAE && content != CN_HOLDS_VAE_DIFFUSERS)
        return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s%s, a VAE is expected", path,
                       cn_content_name(content), cn_content_note(content));
    v->prefix = staged ? FIRST_STAGE : "";
    v->layout = tiny || content == CN_HOLDS_VAE_DIFFUSERS ? CN_LAYOUT_DIFFUSERS : CN_LAYOUT_LDM;
    if (v->layout == CN_LAYOUT_DIFFUSERS && config_beside(path, &v->config)) return CN_OK;
    cn_status s = read_metadata_config(ctx, v, &said);
    v->guessed = !said && !tiny;
    if (s == CN_OK && !said)
        s = tiny ? cn_taesd_config_from_shapes(ctx, v->file, v->layout, &v->config)
                 : cn_vae_config_from_shapes(ctx, v->file, v->prefix, v->layout, &v->config);
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

cn_status cn_vae_file_load(cn_ctx *ctx, const cn_vae_file *v, cn_backend *be, cn_params *p)
{
    const cn_source s = {
        .file = v->file, .path = v->path, .prefix = v->prefix, .layout = v->layout};
    return cn_source_load(ctx, &s, be, p);
}

void cn_vae_file_close(cn_vae_file *v)
{
    if (!v) return;
    cn_tensors_close(v->file);
    cn_free(v);
}
