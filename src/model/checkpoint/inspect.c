/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - describes a checkpoint: layout, networks, number types, sizes, widths.
 *
 * Works on files that nothing here could load, too: what is in them is counted and named. Tensors
 * are counted from the header; no data is read.
 */
#include "model/checkpoint/base_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_GROUPS = 8 };

typedef struct group {
    const char *name, *prefix;
    int64_t tensors, parameters;
    uint64_t bytes;
    int64_t by_dtype[CN_DTYPE_COUNT];
    cn_str widths; /* "" when not known */
} group;

typedef struct findings {
    const char *path, *layout;
    const char *format;
    group groups[MAX_GROUPS];
    int n;
    int64_t skipped;
} findings;

static void count(group *g, const cn_tensor_info *t)
{
    g->tensors++;
    g->parameters += t->elements;
    g->bytes += (uint64_t)t->elements * cn_dtype_bytes(t->dtype);
    g->by_dtype[t->dtype]++;
}

/* --- widths ----------------------------------------------------------------------------------- */

static void add_list(cn_str *s, const int64_t *v, int n)
{
    for (int i = 0; i < n; i++) cn_str_addf(s, "%s%lld", i ? " " : "", (long long)v[i]);
}

static void unet_widths(cn_str *s, const cn_unet_config *c)
{
    cn_str_adds(s, "widths ");
    add_list(s, c->channels, c->levels);
    cn_str_addf(s, ", %d layers per block, context %lld, %lld latent channels", c->layers_per_block,
                (long long)c->context_dim, (long long)c->in_channels);
    if (c->linear_projection) cn_str_adds(s, ", linear projections");
}

static void control_widths(cn_str *s, const cn_controlnet_config *c)
{
    unet_widths(s, &c->encoder);
    cn_str_adds(s, ", hint ");
    add_list(s, c->hint_channels, c->hint_levels);
}

static void vae_widths(cn_str *s, const cn_vae_config *c)
{
    cn_str_adds(s, "widths ");
    add_list(s, c->channels, c->levels);
    cn_str_addf(s, ", %d layers per block, %lld latent channels", c->layers_per_block,
                (long long)c->latent_channels);
}

static void clip_widths(cn_str *s, const cn_clip_config *c)
{
    cn_str_addf(s, "width %lld, %d layers, %lld tokens, length %lld", (long long)c->hidden,
                c->layers, (long long)c->vocabulary, (long long)c->max_positions);
}

/* What the shapes say; nothing when they don't fit a network known here. */
static void describe(group *g, const cn_tensors *t, cn_layout layout)
{
    cn_unet_config u;
    cn_controlnet_config c;
    cn_vae_config v;
    cn_clip_config k;
    if (!strcmp(g->name, "unet")) {
        if (cn_unet_config_from_shapes(NULL, t, g->prefix, layout, &u) == CN_OK)
            unet_widths(&g->widths, &u);
    } else if (!strcmp(g->name, "controlnet")) {
        if (cn_controlnet_config_from_shapes(NULL, t, g->prefix, layout, &c) == CN_OK)
            control_widths(&g->widths, &c);
    } else if (!strcmp(g->name, "vae")) {
        if (cn_vae_config_from_shapes(NULL, t, g->prefix, layout, &v) == CN_OK)
            vae_widths(&g->widths, &v);
    } else if (!strcmp(g->name, "text_encoder")) {
        if (cn_clip_config_from_shapes(NULL, t, g->prefix, &k) == CN_OK)
            clip_widths(&g->widths, &k);
    } else if (!strcmp(g->prefix, CN_PREFIX_OPEN)) {
        if (cn_open_clip_config_from_shapes(NULL, t, g->prefix, &k) == CN_OK)
            clip_widths(&g->widths, &k);
    }
}

/* --- collecting ------------------------------------------------------------------------------- */

static group *add_group(findings *f, const char *name, const char *prefix)
{
    group *g = &f->groups[f->n++];
    *g = (group){.name = name, .prefix = prefix};
    return g;
}

static void drop_empty(findings *f)
{
    int kept = 0;
    for (int i = 0; i < f->n; i++) {
        if (!f->groups[i].tensors)
            cn_str_free(&f->groups[i].widths);
        else
            f->groups[kept++] = f->groups[i];
    }
    f->n = kept;
}

/* A file whose networks are told apart by prefixes. */
static void collect_prefixed(findings *f, const cn_tensors *t)
{
    add_group(f, "unet", CN_PREFIX_UNET);
    add_group(f, "vae", CN_PREFIX_VAE);
    add_group(f, "text_encoder", CN_PREFIX_TEXT);
    add_group(f, "text_encoder (OpenCLIP)", CN_PREFIX_OPEN);
    add_group(f, "text_encoder (other)", "cond_stage_model.");
    add_group(f, "controlnet", CN_PREFIX_CONTROL);
    add_group(f, "averaged weights", "model_ema.");
    add_group(f, "other", "");
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        for (int k = 0; k < f->n; k++) {
            if (strncmp(info->name, f->groups[k].prefix, strlen(f->groups[k].prefix))) continue;
            count(&f->groups[k], info);
            break;
        }
    }
    drop_empty(f);
    const char *said = cn_tensors_metadata(t, CN_META_PREDICTION);
    for (int k = 0; k < f->n; k++) {
        describe(&f->groups[k], t, CN_LAYOUT_LDM);
        if (said && !strcmp(f->groups[k].name, "unet"))
            cn_str_addf(&f->groups[k].widths, ", predicts %s", said);
    }
}

static void collect_bare(findings *f, const cn_tensors *t, const char *name, cn_layout layout)
{
    group *g = add_group(f, name, "");
    for (int64_t i = 0; i < cn_tensors_count(t); i++) count(g, cn_tensors_at(t, i));
    describe(g, t, layout);
}

static void collect_file(findings *f, const cn_tensors *t)
{
    cn_content c = cn_content_of(t);
    f->layout = cn_content_name(c);
    f->format = cn_tensors_format(t);
    f->skipped += cn_tensors_skipped(t);
    switch (c) {
    case CN_HOLDS_CONTROL: collect_bare(f, t, "controlnet", CN_LAYOUT_LDM); break;
    case CN_HOLDS_CONTROL_DIFFUSERS: collect_bare(f, t, "controlnet", CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_UNET: collect_bare(f, t, "unet", CN_LAYOUT_LDM); break;
    case CN_HOLDS_UNET_DIFFUSERS: collect_bare(f, t, "unet", CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_VAE_DIFFUSERS: collect_bare(f, t, "vae", CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_VAE:
        if (cn_tensors_have_prefix(t, CN_PREFIX_VAE))
            collect_prefixed(f, t);
        else
            collect_bare(f, t, "vae", CN_LAYOUT_LDM);
        break;
    case CN_HOLDS_TEXT:
        if (cn_tensors_have_prefix(t, "cond_stage_model."))
            collect_prefixed(f, t);
        else
            collect_bare(f, t, "text_encoder", CN_LAYOUT_LDM);
        break;
    case CN_HOLDS_LORA: collect_bare(f, t, "lora", CN_LAYOUT_LDM); break;
    default: collect_prefixed(f, t); break;
    }
}

static cn_status collect_network(cn_ctx *ctx, findings *f, const char *dir, const char *network)
{
    char sub[CN_PATH_BYTES], path[CN_PATH_BYTES];
    cn_tensors *t = NULL;
    CN_TRY(cn_format(ctx, sub, sizeof sub, "%s/%s", dir, network));
    if (!cn_dir_exists(sub)) return CN_OK;
    CN_TRY(cn_weights_open(ctx, sub, path, &t));
    collect_bare(f, t, network, CN_LAYOUT_DIFFUSERS);
    f->format = cn_tensors_format(t);
    f->skipped += cn_tensors_skipped(t);
    cn_tensors_close(t);
    return CN_OK;
}

static cn_status collect_folder(cn_ctx *ctx, findings *f, const char *dir)
{
    static const char *const networks[] = {"unet", "vae", "text_encoder", "controlnet"};
    for (size_t i = 0; i < CN_COUNT(networks); i++)
        CN_TRY(collect_network(ctx, f, dir, networks[i]));
    f->layout = "a Stable Diffusion base model (diffusers folder)";
    if (f->n && !strcmp(f->groups[0].name, "unet")) return CN_OK;
    if (f->n) {
        f->layout = "networks of a diffusers model (folder)";
        return CN_OK;
    }
    char path[CN_PATH_BYTES];
    cn_tensors *t = NULL;
    CN_TRY(cn_weights_open(ctx, dir, path, &t));
    collect_file(f, t);
    cn_tensors_close(t);
    return CN_OK;
}

/* --- printing --------------------------------------------------------------------------------- */

static void add_dtypes(cn_str *s, const group *g)
{
    bool first = true;
    for (int i = 0; i < CN_DTYPE_COUNT; i++) {
        if (!g->by_dtype[i]) continue;
        cn_str_addf(s, "%s%s", first ? "" : "+", cn_dtype_name((cn_dtype)i));
        first = false;
    }
}

static void add_row(cn_str *s, const group *g)
{
    cn_str_addf(s, "  %-24s %6lld tensors %10.2f M parameters %10.2f MiB  ", g->name,
                (long long)g->tensors, (double)g->parameters / 1e6,
                (double)g->bytes / (1024.0 * 1024.0));
    add_dtypes(s, g);
    if (g->widths.data) cn_str_addf(s, "  %s", g->widths.data);
    cn_str_adds(s, "\n");
}

static group totals(const findings *f)
{
    group t = {.name = "total"};
    for (int i = 0; i < f->n; i++) {
        t.tensors += f->groups[i].tensors;
        t.parameters += f->groups[i].parameters;
        t.bytes += f->groups[i].bytes;
        for (int k = 0; k < CN_DTYPE_COUNT; k++) t.by_dtype[k] += f->groups[i].by_dtype[k];
    }
    return t;
}

static void print_text(const findings *f, cn_str *out)
{
    group total = totals(f);
    cn_str_addf(out, "%s: %s, %s\n", f->path, f->layout, f->format);
    for (int i = 0; i < f->n; i++) add_row(out, &f->groups[i]);
    add_row(out, &total);
    if (f->skipped)
        cn_str_addf(out, "  %lld more tensors have a type or rank that is not read here\n",
                    (long long)f->skipped);
}

static json_t *group_json(const group *g)
{
    json_t *types = json_object();
    for (int i = 0; types && i < CN_DTYPE_COUNT; i++)
        if (g->by_dtype[i])
            json_object_set_new(types, cn_dtype_name((cn_dtype)i), json_integer(g->by_dtype[i]));
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:o}", "name", g->name, "tensors",
                          (json_int_t)g->tensors, "parameters", (json_int_t)g->parameters, "bytes",
                          (json_int_t)g->bytes, "dtypes", types);
    if (o && g->widths.data) json_object_set_new(o, "form", json_string(g->widths.data));
    return o;
}

static cn_status print_json(cn_ctx *ctx, const findings *f, cn_str *out)
{
    group total = totals(f);
    json_t *networks = json_array();
    for (int i = 0; networks && i < f->n; i++)
        json_array_append_new(networks, group_json(&f->groups[i]));
    json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o, s:I}", "path", f->path, "layout", f->layout,
                          "format", f->format, "networks", networks, "total", group_json(&total),
                          "skipped_tensors", (json_int_t)f->skipped);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text) cn_str_addf(out, "%s\n", text);
    free(text);
    json_decref(o);
    /* jansson takes UTF-8 only, so a path of other bytes ends here too */
    return text ? CN_OK : cn_fail(ctx, CN_EINVAL, "%s: cannot be described as JSON", f->path);
}

cn_status cn_weights_inspect(cn_ctx *ctx, const char *path, bool json, cn_str *out)
{
    findings f = {.path = path, .layout = "", .format = ""};
    cn_status s;
    if (cn_dir_exists(path)) {
        s = collect_folder(ctx, &f, path);
    } else {
        cn_tensors *t = NULL;
        s = cn_tensors_open(ctx, path, &t);
        if (s == CN_OK) collect_file(&f, t);
        cn_tensors_close(t);
    }
    if (s == CN_OK && json)
        s = print_json(ctx, &f, out);
    else if (s == CN_OK)
        print_text(&f, out);
    if (s == CN_OK && out->failed) s = cn_fail(ctx, CN_ENOMEM, "out of memory for the description");
    for (int i = 0; i < MAX_GROUPS; i++) cn_str_free(&f.groups[i].widths);
    return s;
}
