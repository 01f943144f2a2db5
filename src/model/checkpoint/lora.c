/* SPDX-License-Identifier: Apache-2.0 */
/* lora.c - a LoRA file's modules and the parameters of UNet and text encoder that they change. */
#include "model/checkpoint/content.h"
#include "model/checkpoint/lora_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- the file's modules ----------------------------------------------------------------------- */

static cn_status module_of(cn_ctx *ctx, cn_lora *l, const cn_lora_name *name, cn_lora_module **out)
{
    /* A module's tensors follow one another, or nearly, since names are sorted. */
    for (int64_t i = l->n; i-- > CN_MAX(l->n - 64, (int64_t)0);)
        if (l->modules[i].net == name->net && !strcmp(l->modules[i].key, name->key)) {
            *out = &l->modules[i];
            return CN_OK;
        }
    if (l->n == l->cap) {
        int64_t cap = l->cap * 2 + 64;
        cn_lora_module *list =
            cn_regrow(ctx, l->modules, (size_t)l->n * sizeof *list, (size_t)cap * sizeof *list);
        if (!list) return CN_ENOMEM;
        l->modules = list;
        l->cap = cap;
    }
    cn_lora_module *m = &l->modules[l->n];
    *m = (cn_lora_module){.net = name->net, .scale = 1};
    m->key = cn_strdup(ctx, name->key);
    m->name = cn_strdup(ctx, name->name);
    l->n++; /* lora_close frees what is there */
    *out = m;
    return m->key && m->name ? CN_OK : CN_ENOMEM;
}

static void leave_out(cn_lora *l, const char *tensor)
{
    if (!l->unknown++) l->first_unknown = tensor;
}

/* A NaN here would end as one in the picture, and the model be blamed for it. */
static cn_status check_values(cn_ctx *ctx, const cn_lora *l, const cn_tensor_info *t)
{
    cn_status s = CN_OK;
    float *values = cn_alloc_array(ctx, (size_t)t->elements + 1, sizeof *values);
    if (!values) return CN_ENOMEM;
    s = cn_tensors_read(ctx, l->file, t, values);
    for (int64_t i = 0; s == CN_OK && i < t->elements; i++)
        if (!isfinite(values[i]))
            s = cn_fail(ctx, CN_EFORMAT,
                        "%s has a value that is %s; this LoRA is damaged, or its training diverged",
                        t->name, isnan(values[i]) ? "no number" : "infinite");
    cn_free(values);
    return s;
}

static cn_status take_tensor(cn_ctx *ctx, cn_lora *l, const cn_tensor_info *t, bool ia3)
{
    cn_lora_name name;
    cn_lora_module *m = NULL;
    const char *kind = cn_lora_unsupported(t->name);
    if (kind)
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: %s, which isn't supported; LoRA, LoHa, LoKr, DoRA, IA3 and whole "
                       "differences are",
                       t->name, kind);
    if (!strncmp(t->name, CN_LORA_BUNDLE, strlen(CN_LORA_BUNDLE))) return CN_OK;
    if (!cn_lora_name_read(t->name, ia3, &name)) {
        leave_out(l, t->name);
        return CN_OK;
    }
    CN_TRY(module_of(ctx, l, &name, &m));
    m->part[name.part] = t;
    return check_values(ctx, l, t);
}

static void lora_close(cn_lora *l)
{
    if (!l) return;
    for (int64_t i = 0; i < l->n; i++) {
        cn_free(l->modules[i].key);
        cn_free(l->modules[i].name);
        cn_free((void *)(uintptr_t)l->modules[i].weight);
        cn_free((void *)(uintptr_t)l->modules[i].bias);
    }
    cn_free(l->modules);
    cn_tensors_close(l->file);
    cn_free(l->path);
    cn_free(l);
}

/* --- the networks' modules -------------------------------------------------------------------- */

/* A key and the parameters of the module so called. */
typedef struct target {
    char key[CN_NAME_MAX];
    const cn_param *weight, *bias;
} target;

typedef struct targets {
    cn_net net;
    target *list;
    int64_t n;
} targets;

static int by_key(const void *a, const void *b)
{
    return strcmp(((const target *)a)->key, ((const target *)b)->key);
}

static void add_target(targets *t, const cn_param *q, const char *name)
{
    static const char weight[] = ".weight", bias[] = ".bias";
    size_t n = strlen(name);
    bool is_weight = cn_lora_ends_with(name, n, weight);
    if (!is_weight && !cn_lora_ends_with(name, n, bias)) return;
    n -= is_weight ? sizeof weight - 1 : sizeof bias - 1;
    target *e = &t->list[t->n];
    *e = (target){.weight = is_weight ? q : NULL, .bias = is_weight ? NULL : q};
    if (cn_lora_make_key(name, n, e->key)) t->n++;
}

/* Weight and bias of one module stand in two entries of the same key. */
static void join(targets *t)
{
    int64_t kept = 0;
    for (int64_t i = 1; i < t->n; i++) {
        target *last = &t->list[kept];
        if (strcmp(last->key, t->list[i].key) != 0) {
            t->list[++kept] = t->list[i];
            continue;
        }
        if (t->list[i].weight) last->weight = t->list[i].weight;
        if (t->list[i].bias) last->bias = t->list[i].bias;
    }
    t->n = t->n ? kept + 1 : 0;
}

static cn_status list_targets(cn_ctx *ctx, const cn_params *p, targets *t)
{
    int64_t n = cn_params_count(p);
    t->net = cn_params_net(p);
    t->list = cn_alloc_array(ctx, (size_t)(2 * n + 1), sizeof *t->list);
    if (!t->list) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const cn_param *q = cn_params_at(p, i);
        add_target(t, q, q->diffusers_name);
        if (strcmp(q->diffusers_name, q->ldm_name) != 0) add_target(t, q, q->ldm_name);
    }
    qsort(t->list, (size_t)t->n, sizeof *t->list, by_key);
    join(t);
    return CN_OK;
}

static const target *find_target(const targets *t, const char *key)
{
    target wanted = {0};
    if (strlen(key) >= sizeof wanted.key) return NULL;
    snprintf(wanted.key, sizeof wanted.key, "%s", key);
    return bsearch(&wanted, t->list, (size_t)t->n, sizeof *t->list, by_key);
}

/* --- matching --------------------------------------------------------------------------------- */

/* The networks that a file may change, and how much. */
typedef struct wanted {
    double unet_weight, text_weight;
    const cn_params *const *networks;
    int n;
} wanted;

/* Text encoders' modules are called with and without "text_model" in front. */
static const target *find_in(const targets *t, const char *key)
{
    char longer[CN_NAME_MAX + 16];
    const target *found = find_target(t, key);
    if (found || t->net < CN_NET_TEXT) return found;
    snprintf(longer, sizeof longer, "text_model_%s", key);
    return find_target(t, longer);
}

/* The tensors that change a bias: differences of as many elements, or a share of it. */
static cn_status match_bias(cn_ctx *ctx, cn_lora *l, cn_lora_module *m, const cn_param *bias)
{
    static const cn_lora_part sums[] = {CN_LORA_DIFF_BIAS, CN_LORA_UP_BIAS, CN_LORA_WHOLE_BIAS};
    bool changes = bias && m->part[CN_LORA_IA3_FACTOR] && !m->feedforward;
    for (size_t i = 0; i < CN_COUNT(sums); i++) {
        const cn_tensor_info *t = m->part[sums[i]];
        if (!t) continue;
        if (!bias) {
            leave_out(l, t->name);
            continue;
        }
        if (t->elements != cn_param_elements(bias))
            return cn_fail(ctx, CN_EMISMATCH, "%s: a bias of %lld elements instead of %lld", m->key,
                           (long long)t->elements, (long long)cn_param_elements(bias));
        changes = true;
    }
    if (!changes) return CN_OK;
    m->bias = cn_strdup(ctx, bias->diffusers_name);
    return m->bias ? CN_OK : CN_ENOMEM;
}

static cn_status match(cn_ctx *ctx, cn_lora *l, cn_lora_module *m, const targets *networks, int n)
{
    const target *at = NULL;
    for (int i = 0; !at && i < n; i++) {
        if (m->net != CN_NETS && m->net != networks[i].net) continue;
        at = find_in(&networks[i], m->key);
        if (at) m->net = networks[i].net;
    }
    if (!at) return CN_OK;
    if (at->weight && cn_lora_changes_weight(m)) {
        CN_TRY(cn_lora_check(ctx, m, at->weight->ndim, at->weight->shape));
        m->feedforward = cn_lora_share_of_inputs(m, at->weight->ndim, at->weight->shape);
        m->weight = cn_strdup(ctx, at->weight->diffusers_name);
        if (!m->weight) return CN_ENOMEM;
    }
    return match_bias(ctx, l, m, at->bias);
}

static cn_status match_all(cn_ctx *ctx, cn_lora *l, const wanted *w)
{
    targets in[CN_NETS] = {{.list = NULL}};
    int64_t matched = 0;
    const char *first = NULL;
    cn_status s = CN_OK;
    for (int i = 0; s == CN_OK && i < w->n; i++) s = list_targets(ctx, w->networks[i], &in[i]);
    for (int64_t i = 0; s == CN_OK && i < l->n; i++) {
        s = match(ctx, l, &l->modules[i], in, w->n);
        bool found = l->modules[i].weight || l->modules[i].bias;
        matched += found;
        if (!found && !first) first = l->modules[i].key;
    }
    for (int i = 0; i < w->n; i++) cn_free(in[i].list);
    CN_TRY(s);
    if (!matched)
        return cn_fail(
            ctx, CN_EMISMATCH,
            "none of its %lld modules is in the model (%s, ...); it was made for another "
            "kind of model",
            (long long)l->n, first);
    if (matched < l->n)
        cn_log(ctx, CN_LOG_WARN,
               "%s: %lld of %lld modules are not in the model and left out (%s%s)", l->path,
               (long long)(l->n - matched), (long long)l->n, first,
               l->n - matched > 1 ? ", ..." : "");
    if (l->unknown)
        cn_log(ctx, CN_LOG_WARN, "%s: %lld tensor%s of no known form and left out (%s%s)", l->path,
               (long long)l->unknown, l->unknown > 1 ? "s are" : " is", l->first_unknown,
               l->unknown > 1 ? ", ..." : "");
    return CN_OK;
}

/* --- opening ---------------------------------------------------------------------------------- */

static cn_status open_lora(cn_ctx *ctx, cn_lora *l, const wanted *w)
{
    const bool ia3 = cn_lora_has_ia3(l->file);
    for (int64_t i = 0; i < cn_tensors_count(l->file); i++)
        CN_TRY(take_tensor(ctx, l, cn_tensors_at(l->file, i), ia3));
    if (!l->n) {
        const cn_content c = cn_content_of(l->file);
        return cn_fail(ctx, CN_EMISMATCH, "holds %s%s, a LoRA is expected", cn_content_name(c),
                       cn_content_note(c));
    }
    CN_TRY(cn_lora_read_peft(ctx, l));
    return match_all(ctx, l, w);
}

static cn_status add_file(cn_ctx *ctx, cn_lora_set *set, const char *path, const wanted *w)
{
    cn_lora **list = cn_regrow(ctx, set->list, (size_t)set->n * sizeof(cn_lora *),
                               (size_t)(set->n + 1) * sizeof(cn_lora *));
    if (!list) return CN_ENOMEM;
    set->list = list;
    cn_lora *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->unet_weight = w->unet_weight;
    l->text_weight = w->text_weight;
    cn_status s = (l->path = cn_strdup(ctx, path)) ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_tensors_open(ctx, path, &l->file);
    if (s == CN_OK && (s = open_lora(ctx, l, w)) != CN_OK) s = cn_fail_prefix(ctx, s, "%s", path);
    if (s != CN_OK) {
        lora_close(l);
        return s;
    }
    set->list[set->n++] = l;
    return CN_OK;
}

/* The files of a folder: peft's adapter, one each of UNet and text encoder, or what diffusers'
 * save_lora_weights wrote. */
static cn_status add_folder(cn_ctx *ctx, cn_lora_set *set, const char *dir, const wanted *w)
{
    static const char *const files[] = {"adapter_model.safetensors",
                                        "adapter_model.bin",
                                        "unet/adapter_model.safetensors",
                                        "unet/adapter_model.bin",
                                        "text_encoder/adapter_model.safetensors",
                                        "text_encoder/adapter_model.bin",
                                        "pytorch_lora_weights.safetensors",
                                        "pytorch_lora_weights.bin"};
    char path[CN_PATH_BYTES];
    const int before = set->n;
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        if (i % 2) {
            CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, files[i - 1]));
            if (cn_file_exists(path)) continue;
        }
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, files[i]));
        if (cn_file_exists(path)) CN_TRY(add_file(ctx, set, path, w));
    }
    if (set->n > before) return CN_OK;
    return cn_fail(ctx, CN_EIO,
                   "%s: a folder without %s (peft's, with adapter_config.json, also in unet/ and "
                   "text_encoder/) or %s (diffusers')",
                   dir, files[0], files[6]);
}

cn_status cn_lora_add(cn_ctx *ctx, cn_lora_set *set, const char *path, double unet_weight,
                      double text_weight, const cn_params *const *networks, int n)
{
    const wanted w = {unet_weight, text_weight, networks, n};
    const int before = set->n;
    if (!cn_dir_exists(path)) return add_file(ctx, set, path, &w);
    const cn_status s = add_folder(ctx, set, path, &w);
    if (s != CN_OK) cn_lora_set_truncate(set, before);
    return s;
}

const cn_tensors *cn_lora_file(const cn_lora_set *set, int i, const char **path)
{
    *path = set->list[i]->path;
    return set->list[i]->file;
}

void cn_lora_set_truncate(cn_lora_set *set, int n)
{
    while (set->n > n) lora_close(set->list[--set->n]);
}

void cn_lora_set_free(cn_lora_set *set)
{
    cn_lora_set_truncate(set, 0);
    cn_free(set->list);
    *set = (cn_lora_set){0};
}

int64_t cn_lora_modules(const cn_lora_set *set)
{
    int64_t n = 0;
    for (int i = 0; i < set->n; i++)
        for (int64_t k = 0; k < set->list[i]->n; k++)
            n += set->list[i]->modules[k].weight || set->list[i]->modules[k].bias;
    return n;
}

static bool changes(const cn_lora_module *m, cn_net net, const cn_param *q)
{
    return m->net == net && ((m->weight && !strcmp(m->weight, q->diffusers_name)) ||
                             (m->bias && !strcmp(m->bias, q->diffusers_name)));
}

bool cn_lora_changes(const cn_lora_set *set, cn_net net, const cn_param *q)
{
    for (int i = 0; net != CN_NETS && i < set->n; i++)
        for (int64_t k = 0; k < set->list[i]->n; k++)
            if (changes(&set->list[i]->modules[k], net, q)) return true;
    return false;
}

/* Its own values are finite; what they make may be too large. */
static cn_status check_merged(cn_ctx *ctx, const cn_lora *l, const cn_param *q, const float *plain,
                              bool was_finite)
{
    if (!was_finite || cn_first_nonfinite(CN_F32, plain, (size_t)cn_param_elements(q)) < 0)
        return CN_OK;
    return cn_fail(
        ctx, CN_EFORMAT,
        "%s: what it adds to %s isn't finite; this LoRA is damaged, or its weight is too "
        "large",
        l->path, q->diffusers_name);
}

cn_status cn_lora_merge(cn_ctx *ctx, const cn_lora_set *set, cn_net net, const cn_param *q,
                        float *plain)
{
    for (int i = 0; net != CN_NETS && i < set->n; i++) {
        const cn_lora *l = set->list[i];
        const double weight = net == CN_NET_UNET ? l->unet_weight : l->text_weight;
        const size_t n = (size_t)cn_param_elements(q);
        const bool finite = cn_first_nonfinite(CN_F32, plain, n) < 0;
        for (int64_t k = 0; k < l->n; k++)
            if (changes(&l->modules[k], net, q))
                CN_TRY(cn_lora_add_module(ctx, l->file, &l->modules[k], q, weight, plain));
        CN_TRY(check_merged(ctx, l, q, plain, finite));
    }
    return CN_OK;
}
