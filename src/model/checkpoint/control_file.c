/* SPDX-License-Identifier: Apache-2.0 */
/* control_file.c - opens a ControlNet, and what else steers a UNet, in any of its published forms
 * and loads it.
 *
 * A folder's config.json decides its widths; a file's shapes do, unless it says them
 * (single_file.c). A diffusers file opened by itself takes the config.json beside it when there is
 * one, because the numbers of heads and of groups aren't in the shapes; where nothing says them
 * they are the base's that it works beside.
 */
#include "model/checkpoint/base_parts.h"
#include "model/checkpoint/control_parts.h"
#include "model/checkpoint/weights.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char *form_prefix(int form)
{
    return form == CN_CONTROL_PREFIXED || form == CN_CONTROL_WHOLE ? CN_PREFIX_CONTROL : "";
}

static cn_layout form_layout(int form)
{
    return form == CN_CONTROL_DIFFUSERS ? CN_LAYOUT_DIFFUSERS : CN_LAYOUT_LDM;
}

/* What a control network's file may hold: how it is read, and in which form. */
static const struct row {
    cn_content content;
    int form;
    const cn_control_kind *kind;
} rows[] = {
    {CN_HOLDS_CONTROL_DIFFUSERS, CN_CONTROL_DIFFUSERS, &cn_control_kind_net},
    {CN_HOLDS_CONTROL, CN_CONTROL_ONLY, &cn_control_kind_net},
    {CN_HOLDS_CONTROL_PREFIXED, CN_CONTROL_PREFIXED, &cn_control_kind_net},
    {CN_HOLDS_WHOLE, CN_CONTROL_WHOLE, &cn_control_kind_net},
    {CN_HOLDS_CONTROL_DIFFERENCE, CN_CONTROL_ONLY, &cn_control_kind_net},
    {CN_HOLDS_CONTROL_UNION, CN_CONTROL_DIFFUSERS, &cn_control_kind_net},
    {CN_HOLDS_CONTROL_LORA, CN_CONTROL_ONLY, &cn_control_kind_net},
    {CN_HOLDS_ADAPTER, CN_CONTROL_ONLY, &cn_control_kind_adapter},
    {CN_HOLDS_LLLITE, CN_CONTROL_ONLY, &cn_control_kind_lllite},
    {CN_HOLDS_IP_ADAPTER, CN_CONTROL_ONLY, &cn_control_kind_ip},
};

static cn_status refuse_content(cn_ctx *ctx, const char *path, const cn_tensors *t, cn_content is)
{
    if (is == CN_HOLDS_UNKNOWN)
        return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s (%s, ...), a ControlNet is expected", path,
                       cn_content_name(is),
                       cn_tensors_count(t) > 0 ? cn_tensors_at(t, 0)->name : "no tensors at all");
    return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s%s, a ControlNet is expected", path,
                   cn_content_name(is), cn_content_note(is));
}

/* Sets form and kind by what c->file, opened as `path`, holds. */
static cn_status form_of(cn_ctx *ctx, const char *path, cn_control_file *c)
{
    const cn_tensors *t = c->file;
    const cn_content is = cn_content_of(t);
    size_t i = 0;
    while (i < CN_COUNT(rows) && rows[i].content != is) i++;
    if (i == CN_COUNT(rows)) return refuse_content(ctx, path, t, is);
    c->form = rows[i].form;
    c->kind = rows[i].kind;
    c->low_rank = is == CN_HOLDS_CONTROL_LORA;
    if (is == CN_HOLDS_CONTROL_DIFFERENCE &&
        cn_tensors_have_prefix(t, CN_PREFIX_CONTROL "input_hint_block."))
        c->form = CN_CONTROL_PREFIXED;
    if (is == CN_HOLDS_ADAPTER && cn_tensors_have_prefix(t, "adapter."))
        c->form = CN_CONTROL_DIFFUSERS;
    return CN_OK;
}

static cn_status read_config(cn_ctx *ctx, const json_t *json, void *out)
{
    cn_control_file *c = out;
    const bool adapter = !strcmp(cn_json_str(json, "_class_name", ""), "T2IAdapter");
    c->kind = adapter ? &cn_control_kind_adapter : &cn_control_kind_net;
    return adapter ? cn_adapter_config_read(ctx, json, &c->adapter)
                   : cn_controlnet_config_read(ctx, json, &c->config);
}

static cn_status open_folder(cn_ctx *ctx, cn_control_file *c)
{
    char path[CN_PATH_BYTES];
    if (cn_file_in(c->path, "unet/config.json"))
        return cn_fail(
            ctx, CN_EMISMATCH,
            "%s: holds a Stable Diffusion base model (diffusers folder), a ControlNet is "
            "expected",
            c->path);
    if (!cn_file_in(c->path, "config.json"))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: no ControlNet folder: config.json and "
                       "diffusion_pytorch_model.safetensors are expected",
                       c->path);
    CN_TRY(cn_config_read_in(ctx, c->path, "config.json", read_config, c));
    CN_TRY(cn_weights_open(ctx, c->path, path, &c->file));
    const cn_control_kind *said = c->kind;
    CN_TRY(form_of(ctx, path, c));
    if (c->kind != said || c->low_rank)
        return cn_fail(ctx, CN_EMISMATCH, "%s: holds %s, its config.json describes a %s", path,
                       cn_content_name(cn_content_of(c->file)), said->title);
    return cn_format(ctx, c->path, sizeof c->path, "%s", path);
}

/* --- names ------------------------------------------------------------------------------------ */

/* What folders call their files and caches their folders says nothing. */
static bool says_nothing(const char *name)
{
    static const char *const every[] = {"diffusion_pytorch_model", "controlnet", "snapshots",
                                        "main"};
    size_t n = strlen(name);
    for (size_t i = 0; i < CN_COUNT(every); i++)
        if (!strncmp(name, every[i], strlen(every[i])) && (i == 0 || !name[strlen(every[i])]))
            return true;
    return n == 0 || (n == 40 && strspn(name, "0123456789abcdef") == n); /* a commit */
}

/* Lower case, '_' for whatever is no letter or digit. */
void cn_control_take_name(cn_control_file *c, const char *path)
{
    char *out = c->name;
    const size_t cap = sizeof c->name;
    size_t end = strlen(path), n = 0;
    while (end > 1 && path[end - 1] == '/') end--;
    do {
        size_t begin = end;
        while (begin > 0 && path[begin - 1] != '/') begin--;
        n = CN_MIN(end - begin, cap - 1);
        for (size_t i = 0; i < n; i++) {
            const int letter = tolower((unsigned char)path[begin + i]);
            out[i] = isalnum(letter) ? (char)letter : '_';
        }
        out[n] = 0;
        end = begin ? begin - 1 : 0;
    } while (end > 0 && says_nothing(out));
}

bool cn_control_named(const cn_control_file *c, const char *words)
{
    const size_t n = strlen(words);
    for (const char *at = c->name; (at = strstr(at, words)); at++)
        if ((at == c->name || at[-1] == '_') && (!at[n] || at[n] == '_')) return true;
    return false;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* The config.json beside a diffusers file, if it is a ControlNet's. */
static bool config_beside(cn_control_file *c)
{
    const cn_control_kind *holds = c->kind;
    char dir[CN_PATH_BYTES];
    const char *slash = strrchr(c->path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - c->path) : 1, slash ? c->path : ".");
    if (!cn_file_in(dir, "config.json")) return false;
    const bool found =
        cn_config_read_in(NULL, dir, "config.json", read_config, c) == CN_OK && c->kind == holds;
    c->kind = holds;
    return found;
}

/* What a single file says of itself; *found: it does. */
static cn_status read_metadata_config(cn_ctx *ctx, cn_control_file *c, bool *found)
{
    json_t *said = NULL;
    CN_TRY(cn_said_config(ctx, c->file, &said));
    const json_t *own = json_object_get(said, cn_net_kind_of(CN_NET_CONTROL)->name);
    cn_status s = own ? cn_controlnet_config_read(ctx, own, &c->config) : CN_OK;
    if (s != CN_OK) s = cn_fail_prefix(ctx, s, "metadata " CN_META_CONFIG);
    *found = own != NULL;
    json_decref(said);
    return s;
}

/* Whether the file of the same name that ends in .yaml, as published beside single files, has
 * global average pooling. */
static bool pooled_by_yaml(const cn_control_file *c)
{
    char path[CN_PATH_BYTES], *text = NULL;
    size_t n = 0;
    const char *dot = strrchr(c->path, '.'), *slash = strrchr(c->path, '/');
    if (!dot || (slash && dot < slash)) return false;
    if (cn_format(NULL, path, sizeof path, "%.*s.yaml", (int)(dot - c->path), c->path) != CN_OK ||
        !cn_file_exists(path) || cn_file_read(NULL, path, 1 << 20, &text, &n) != CN_OK)
        return false;
    const char *at = strstr(text, "global_average_pooling:");
    const bool pooled =
        at && !strncasecmp(at + strcspn(at, ":") + 1 + strspn(strchr(at, ':') + 1, " "), "true", 4);
    cn_free(text);
    return pooled;
}

/* Files whose configuration isn't known don't say it; the webui extension goes by these two too. */
static void find_pooling(cn_ctx *ctx, cn_control_file *c)
{
    const bool by_name = cn_control_named(c, "shuffle");
    c->config.global_pool = by_name || pooled_by_yaml(c);
    if (c->config.global_pool)
        cn_log(ctx, CN_LOG_INFO,
               "%s: a Shuffle ControlNet by its %s: its residuals are averaged over the picture, "
               "and the unconditional half of guidance is drawn without it",
               c->path, by_name ? "name" : "yaml file");
}

static cn_status read_shapes(cn_ctx *ctx, cn_control_file *c)
{
    const char *prefix = form_prefix(c->form);
    const cn_layout layout = form_layout(c->form);
    if (c->kind == &cn_control_kind_adapter)
        return cn_adapter_config_from_shapes(ctx, c->file, layout, &c->adapter);
    if (c->kind == &cn_control_kind_lllite)
        return cn_lllite_config_from_shapes(ctx, c->file, &c->lllite);
    if (c->kind == &cn_control_kind_ip) return cn_ip_config_from_shapes(ctx, c->file, &c->ip);
    if (c->low_rank)
        return cn_controlnet_hint_from_shapes(ctx, c->file, prefix, layout, &c->config);
    return cn_controlnet_config_from_shapes(ctx, c->file, prefix, layout, &c->config);
}

static cn_status open_file(cn_ctx *ctx, cn_control_file *c)
{
    bool said = false;
    CN_TRY(cn_tensors_open(ctx, c->path, &c->file));
    CN_TRY(form_of(ctx, c->path, c));
    if (c->form == CN_CONTROL_DIFFUSERS && config_beside(c)) return CN_OK;
    cn_status s = read_metadata_config(ctx, c, &said);
    c->guessed = !said;
    c->difference = cn_content_of(c->file) == CN_HOLDS_CONTROL_DIFFERENCE;
    if (s == CN_OK && !said) s = read_shapes(ctx, c);
    if (s == CN_OK && !said && c->kind == &cn_control_kind_net) find_pooling(ctx, c);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", c->path);
}

cn_status cn_control_open_any(cn_ctx *ctx, const char *path, cn_control_file **out)
{
    cn_control_file *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    cn_status s = cn_format(ctx, c->path, sizeof c->path, "%s", path);
    if (s == CN_OK) s = cn_ranges_create(ctx, &c->ranges);
    for (size_t n = strlen(c->path); n > 1 && c->path[n - 1] == '/';) c->path[--n] = 0;
    cn_control_take_name(c, c->path);
    if (s == CN_OK) s = cn_dir_exists(c->path) ? open_folder(ctx, c) : open_file(ctx, c);
    if (s != CN_OK) {
        cn_control_close(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

cn_status cn_control_open(cn_ctx *ctx, const char *path, cn_control_file **out)
{
    cn_control_file *c = NULL;
    CN_TRY(cn_control_open_any(ctx, path, &c));
    if (c->kind == &cn_control_kind_net && !c->low_rank) {
        *out = c;
        return CN_OK;
    }
    const cn_status s = refuse_content(ctx, path, c->file, cn_content_of(c->file));
    cn_control_close(c);
    return s;
}

const void *cn_control_config(const cn_control_file *c)
{
    if (c->kind == &cn_control_kind_adapter) return &c->adapter;
    if (c->kind == &cn_control_kind_ip) return &c->ip;
    return c->lllite ? (const void *)c->lllite : &c->config;
}

void cn_control_close(cn_control_file *c)
{
    if (!c) return;
    cn_free(c->lllite);
    cn_ranges_destroy(c->ranges);
    cn_tensors_close(c->file);
    cn_free(c);
}

cn_status cn_control_load(cn_ctx *ctx, const cn_control_file *c, cn_backend *be, cn_params *p)
{
    char path[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source s = cn_control_source(c), unet;
    if (!c->difference && !c->low_rank) return cn_source_load(ctx, &s, be, p);
    if (!c->base) return cn_fail(ctx, CN_EMISMATCH, "%s: " CN_CONTROL_NO_BASE, c->path);
    CN_TRY(cn_base_source(ctx, c->base, CN_NET_UNET, path, &opened, &unet));
    if (c->low_rank)
        s.base = &unet;
    else
        s.plus = &unet;
    cn_status status = c->low_rank ? cn_low_rank_derive(ctx, &s, p) : CN_OK;
    if (status == CN_OK) status = cn_source_load(ctx, &s, be, p);
    cn_tensors_close(opened);
    return status;
}

cn_source cn_control_source(const cn_control_file *c)
{
    return (cn_source){.file = c->file,
                       .path = c->path,
                       .prefix = form_prefix(c->form),
                       .layout = form_layout(c->form)};
}

cn_status cn_control_keep_ranges(cn_ctx *ctx, const cn_control_file *c, cn_params *p)
{
    const cn_source s = cn_control_source(c);
    cn_params *declared = NULL;
    if (c->kind != &cn_control_kind_net || c->low_rank) return CN_OK; /* seen when merged */
    if (!cn_ranges_matter(&s, cn_params_storage(p))) return CN_OK;
    CN_TRY(cn_net_declare(ctx, CN_NET_CONTROL, &c->config, &declared));
    const cn_status status = cn_ranges_apply(ctx, c->ranges, &s, declared, p);
    cn_params_destroy(declared);
    return status;
}

cn_dtype cn_control_dtype(const cn_control_file *c)
{
    const cn_source s = cn_control_source(c);
    return cn_source_dtype(&s);
}

/* --- does it fit ------------------------------------------------------------------------------ */

static void add_widths(cn_str *s, const cn_unet_config *c)
{
    for (int i = 0; i < c->levels; i++)
        cn_str_addf(s, "%s%lld", i ? " " : "", (long long)c->channels[i]);
    cn_str_addf(s, " with %d layers", c->layers_per_block);
}

static bool same_widths(const cn_unet_config *a, const cn_unet_config *b)
{
    if (a->levels != b->levels || a->layers_per_block != b->layers_per_block) return false;
    for (int i = 0; i < a->levels; i++)
        if (a->channels[i] != b->channels[i]) return false;
    return true;
}

static cn_status fail_widths(cn_ctx *ctx, const cn_unet_config *control, const cn_unet_config *base)
{
    cn_str a = {0}, b = {0};
    add_widths(&a, control);
    add_widths(&b, base);
    cn_status s =
        cn_fail(ctx, CN_EMISMATCH, "the ControlNet's widths (%s) don't fit the base model's (%s)",
                a.data ? a.data : "?", b.data ? b.data : "?");
    cn_str_free(&a);
    cn_str_free(&b);
    return s;
}

cn_status cn_control_fits(cn_ctx *ctx, const cn_controlnet_config *c, const cn_unet_config *base)
{
    const cn_unet_config *e = &c->encoder;
    if (cn_unet_attends(e) && e->context_dim != base->context_dim)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the ControlNet was made for a text encoder of width %lld (%s), the base "
                       "model's is %lld (%s)",
                       (long long)e->context_dim, cn_family_by_context(e->context_dim),
                       (long long)base->context_dim, cn_family_by_context(base->context_dim));
    if (!same_widths(e, base)) return fail_widths(ctx, e, base);
    if (e->added_dim != base->added_dim)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the ControlNet takes %lld values of pooled text and sizes, the base model "
                       "%lld: they belong to different families",
                       (long long)e->added_dim, (long long)base->added_dim);
    /* An inpainting UNet takes mask and masked image too; its ControlNet sees the latent only. */
    if (e->in_channels != base->in_channels && e->in_channels != base->out_channels)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the ControlNet takes latents of %lld channels, the base model's have %lld",
                       (long long)e->in_channels, (long long)base->out_channels);
    return CN_OK;
}

/* A Control-LoRA's encoder is the base's. */
static cn_status take_encoder(cn_ctx *ctx, cn_control_file *c, const cn_unet_config *base)
{
    cn_unet_config *e = &c->config.encoder;
    const cn_tensor_info *first = cn_tensors_find(c->file, "input_blocks.0.0.down");
    *e = *base;
    e->guidance_dim = 0;
    e->in_channels = first && first->ndim == 4 ? first->shape[1] : base->out_channels;
    e->out_channels = e->in_channels;
    CN_TRY(cn_controlnet_config_check(ctx, &c->config));
    const cn_source s = cn_control_source(c);
    return cn_low_rank_fits(ctx, &s, &c->config);
}

static cn_status join_net(cn_ctx *ctx, cn_control_file *c, const cn_base *base)
{
    if (c->low_rank) return take_encoder(ctx, c, &base->unet);
    CN_TRY(cn_control_fits(ctx, &c->config, &base->unet));
    if (c->difference)
        cn_log(ctx, CN_LOG_INFO, "%s: stored as a difference; the base model's weights are added",
               c->path);
    if (!c->guessed) return CN_OK;
    cn_unet_config *e = &c->config.encoder;
    memcpy(e->heads, base->unet.heads, sizeof base->unet.heads);
    e->norm_groups = base->unet.norm_groups;
    e->context_dim = base->unet.context_dim;
    if (!c->config.union_types) e->added_number_dim = base->unet.added_number_dim;
    return cn_controlnet_config_check(ctx, &c->config);
}

cn_status cn_control_join(cn_ctx *ctx, cn_control_file *c, const cn_base *base)
{
    cn_status s;
    if (c->kind == &cn_control_kind_adapter)
        s = cn_adapter_fits(ctx, &c->adapter, &base->unet);
    else if (c->kind == &cn_control_kind_lllite)
        s = cn_lllite_fits(ctx, c->lllite, &base->unet);
    else if (c->kind == &cn_control_kind_ip)
        s = cn_ip_fits(ctx, c->file, &c->ip, &base->unet);
    else
        s = join_net(ctx, c, base);
    CN_TRY(s);
    c->ip.unet = base->unet;
    c->base = base;
    return CN_OK;
}
