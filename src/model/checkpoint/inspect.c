/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - describes a checkpoint: layout, networks, number types, sizes, widths.
 *
 * Works on files that nothing here could load, too: what is in them is counted and named. Tensors
 * are counted from the header; no data is read.
 */
#include "model/checkpoint/base_parts.h"

#include "io/json_text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_GROUPS = 16 };

typedef struct group {
    cn_net net; /* CN_NETS: no network that is known here */
    const char *name, *prefix;
    const char *note; /* behind the name; NULL */
    int64_t tensors, parameters;
    uint64_t bytes;
    int64_t by_dtype[CN_ANY_DTYPE_COUNT];
    cn_str widths; /* "" when not known */
} group;

typedef struct findings {
    const char *path, *layout, *note; /* note: behind the layout, in text */
    const char *format;
    group groups[MAX_GROUPS];
    int n;
    int64_t skipped;
} findings;

static void count(group *g, const cn_tensor_info *t)
{
    g->tensors++;
    g->parameters += t->elements;
    g->bytes += cn_dtype_size(t->dtype, t->elements);
    g->by_dtype[t->dtype]++;
}

static void count_all(group *g, const cn_tensors *t)
{
    for (int64_t i = 0; i < cn_tensors_count(t); i++) count(g, cn_tensors_at(t, i));
}

/* What the shapes say; nothing when they don't fit a network known here. */
static void describe(group *g, const cn_tensors *t, cn_layout layout)
{
    cn_net_config c;
    if (g->net == CN_NETS) return;
    const cn_net_kind *n = cn_net_kind_of(g->net);
    if (n->from_shapes(NULL, t, g->prefix, layout, &c) == CN_OK) n->describe(&g->widths, &c);
}

/* --- collecting ------------------------------------------------------------------------------- */

static group *add_group(findings *f, cn_net net, const char *name, const char *prefix)
{
    group *g = &f->groups[f->n++];
    *g = (group){.net = net, .name = name, .prefix = prefix};
    return g;
}

static group *add_network(findings *f, cn_net net, const char *prefix)
{
    return add_group(f, net, cn_net_kind_of(net)->name, prefix);
}

/* One of a family's networks, unless another family has it in the same place. */
static void add_part_of(findings *f, const cn_family_net *own)
{
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->groups[i].prefix, own->prefix)) return;
    add_network(f, own->net, own->prefix)->note = own->note;
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
    for (int i = 0; cn_family_at(i); i++)
        for (int k = 0; k < cn_family_at(i)->n_nets; k++) add_part_of(f, &cn_family_at(i)->nets[k]);
    add_group(f, CN_NETS, "text_encoder (other)", "cond_stage_model.");
    add_network(f, CN_NET_CONTROL, CN_PREFIX_CONTROL);
    add_group(f, CN_NETS, "averaged weights", "model_ema.");
    add_group(f, CN_NETS, "other", "");
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
        if (said && f->groups[k].net == CN_NET_UNET)
            cn_str_addf(&f->groups[k].widths, ", predicts %s", said);
    }
}

static void collect_bare(findings *f, const cn_tensors *t, cn_net net, cn_layout layout)
{
    group *g = add_network(f, net, "");
    count_all(g, t);
    describe(g, t, layout);
}

static void collect_adapter(findings *f, const cn_tensors *t)
{
    static const char *const forms[] = {"full", "full, of SDXL", "light"};
    const bool diffusers = cn_tensors_have_prefix(t, "adapter.");
    group *g = add_group(f, CN_NETS, "t2i_adapter", "");
    cn_adapter_config c;
    count_all(g, t);
    if (cn_adapter_config_from_shapes(NULL, t, diffusers ? CN_LAYOUT_DIFFUSERS : CN_LAYOUT_LDM,
                                      &c) != CN_OK)
        return;
    cn_str_addf(&g->widths, "%s, widths", forms[c.form]);
    for (int i = 0; i < c.levels; i++) cn_str_addf(&g->widths, " %lld", (long long)c.channels[i]);
    cn_str_addf(&g->widths, ", %lld image channel%s", (long long)c.image_channels,
                c.image_channels == 1 ? "" : "s");
}

static void collect_lllite(findings *f, const cn_tensors *t)
{
    group *g = add_group(f, CN_NETS, "lllite", "");
    cn_lllite_config *c = NULL;
    count_all(g, t);
    if (cn_lllite_config_from_shapes(NULL, t, &c) != CN_OK) return;
    const cn_lllite_module *m = &c->modules[0];
    cn_str_addf(&g->widths, "%d modules, condition %lld, hidden %lld", c->n,
                (long long)m->widths[CN_MAX(m->convs, 1) - 1], (long long)m->hidden);
    cn_free(c);
}

static void collect_ip_adapter(findings *f, const cn_tensors *t)
{
    static const char *const forms[CN_IP_FORMS] = {"plain", "full-face", "plus"};
    group *g = add_group(f, CN_NETS, "ip_adapter", "");
    cn_ip_config c;
    count_all(g, t);
    if (cn_ip_config_from_shapes(NULL, t, &c) != CN_OK) return;
    cn_str_addf(&g->widths, "%s, image features %lld", forms[c.form], (long long)c.features);
    if (c.tokens) cn_str_addf(&g->widths, ", %lld tokens", (long long)c.tokens);
    cn_str_addf(&g->widths, ", context %lld, %d layers", (long long)c.context_dim, c.pairs);
}

static void collect_file(findings *f, const cn_tensors *t)
{
    cn_content c = cn_content_of(t);
    f->layout = cn_content_name(c);
    f->note = cn_content_note(c);
    f->format = cn_tensors_format(t);
    f->skipped += cn_tensors_skipped(t);
    switch (c) {
    case CN_HOLDS_CONTROL: collect_bare(f, t, CN_NET_CONTROL, CN_LAYOUT_LDM); break;
    case CN_HOLDS_CONTROL_UNION:
    case CN_HOLDS_CONTROL_DIFFUSERS: collect_bare(f, t, CN_NET_CONTROL, CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_ADAPTER: collect_adapter(f, t); break;
    case CN_HOLDS_LLLITE: collect_lllite(f, t); break;
    case CN_HOLDS_IP_ADAPTER: collect_ip_adapter(f, t); break;
    case CN_HOLDS_VISION: collect_bare(f, t, CN_NET_VISION, CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_CONTROL_LORA: count_all(add_group(f, CN_NETS, "control_lora", ""), t); break;
    case CN_HOLDS_UNET: collect_bare(f, t, CN_NET_UNET, CN_LAYOUT_LDM); break;
    case CN_HOLDS_UNET_DIFFUSERS: collect_bare(f, t, CN_NET_UNET, CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_VAE_DIFFUSERS: collect_bare(f, t, CN_NET_VAE, CN_LAYOUT_DIFFUSERS); break;
    case CN_HOLDS_VAE:
        if (cn_tensors_have_prefix(t, "first_stage_model."))
            collect_prefixed(f, t);
        else
            collect_bare(f, t, CN_NET_VAE, CN_LAYOUT_LDM);
        break;
    case CN_HOLDS_TEXT:
        if (cn_tensors_have_prefix(t, "cond_stage_model."))
            collect_prefixed(f, t);
        else
            collect_bare(f, t, CN_NET_TEXT, CN_LAYOUT_LDM);
        break;
    case CN_HOLDS_LORA: count_all(add_group(f, CN_NETS, "lora", ""), t); break;
    default: collect_prefixed(f, t); break;
    }
}

static cn_status collect_network(cn_ctx *ctx, findings *f, const char *dir, cn_net net)
{
    char sub[CN_PATH_BYTES], path[CN_PATH_BYTES];
    cn_tensors *t = NULL;
    CN_TRY(cn_format(ctx, sub, sizeof sub, "%s/%s", dir, cn_net_kind_of(net)->name));
    if (!cn_dir_exists(sub)) return CN_OK;
    CN_TRY(cn_weights_open(ctx, sub, path, &t));
    collect_bare(f, t, net, CN_LAYOUT_DIFFUSERS);
    f->format = cn_tensors_format(t);
    f->skipped += cn_tensors_skipped(t);
    cn_tensors_close(t);
    return CN_OK;
}

static cn_status collect_folder(cn_ctx *ctx, findings *f, const char *dir)
{
    for (int net = 0; net < CN_NETS; net++)
        if (net != CN_NET_CONTROL) CN_TRY(collect_network(ctx, f, dir, (cn_net)net));
    CN_TRY(collect_network(ctx, f, dir, CN_NET_CONTROL));
    f->layout = "a Stable Diffusion base model (diffusers folder)";
    if (f->n && f->groups[0].net == CN_NET_UNET) return CN_OK;
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
    for (int i = 0; i < CN_ANY_DTYPE_COUNT; i++) {
        if (!g->by_dtype[i]) continue;
        cn_str_addf(s, "%s%s", first ? "" : "+", cn_dtype_name((cn_dtype)i));
        first = false;
    }
}

static void full_name(const group *g, char out[64])
{
    const char *note = g->note;
    snprintf(out, 64, "%s%s%s%s", g->name, note ? " (" : "", note ? note : "", note ? ")" : "");
}

static void add_row(cn_str *s, const group *g)
{
    char name[64];
    full_name(g, name);
    cn_str_addf(s, "  %-24s %6lld tensors %10.2f M parameters %10.2f MiB  ", name,
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
        for (int k = 0; k < CN_ANY_DTYPE_COUNT; k++) t.by_dtype[k] += f->groups[i].by_dtype[k];
    }
    return t;
}

static void print_text(const findings *f, cn_str *out)
{
    group total = totals(f);
    cn_str_addf(out, "%s: %s%s, %s\n", f->path, f->layout, f->note, f->format);
    for (int i = 0; i < f->n; i++) add_row(out, &f->groups[i]);
    add_row(out, &total);
    if (f->skipped)
        cn_str_addf(out, "  %lld more tensors have a type or rank that is not read here\n",
                    (long long)f->skipped);
}

static json_t *group_json(const group *g)
{
    char name[64];
    json_t *types = json_object();
    full_name(g, name);
    for (int i = 0; types && i < CN_ANY_DTYPE_COUNT; i++)
        if (g->by_dtype[i])
            json_object_set_new(types, cn_dtype_name((cn_dtype)i), json_integer(g->by_dtype[i]));
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:o}", "name", name, "tensors",
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
    char *text = cn_json_text(o, JSON_COMPACT);
    if (text) cn_str_addf(out, "%s\n", text);
    free(text);
    json_decref(o);
    /* jansson takes UTF-8 only, so a path of other bytes ends here too */
    return text ? CN_OK : cn_fail(ctx, CN_EINVAL, "%s: cannot be described as JSON", f->path);
}

cn_status cn_weights_inspect(cn_ctx *ctx, const char *path, bool json, cn_str *out)
{
    findings f = {.path = path, .layout = "", .note = "", .format = ""};
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
