/* SPDX-License-Identifier: Apache-2.0 */
/* lora.c - a LoRA file's names to modules of the UNet and the text encoder; lora_merge.c computes.
 *
 * All of the published naming schemes meet in one key: the module's name with '_' for '.'. Keys of
 * the network's parameters, under both of their names, are made the same way, so no table of blocks
 * is needed.
 */
#include "model/checkpoint/lora_internal.h"
#include "io/json.h"
#include "model/checkpoint/content.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- names ------------------------------------------------------------------------------------ */

static const struct {
    const char *ending;
    cn_lora_part part;
} endings[] = {
    {".lora_up.weight", CN_LORA_UP},
    {".lora_down.weight", CN_LORA_DOWN},
    {".lora_mid.weight", CN_LORA_MID},
    {".lora_B.weight", CN_LORA_UP},
    {".lora_A.weight", CN_LORA_DOWN},
    {".lora_B.default.weight", CN_LORA_UP},
    {".lora_A.default.weight", CN_LORA_DOWN},
    {".lora_linear_layer.up.weight", CN_LORA_UP},
    {".lora_linear_layer.down.weight", CN_LORA_DOWN},
    {".lora.up.weight", CN_LORA_UP},
    {".lora.down.weight", CN_LORA_DOWN},
    {"_lora.up.weight", CN_LORA_UP},
    {"_lora.down.weight", CN_LORA_DOWN},
    {".alpha", CN_LORA_ALPHA},
    {".hada_w1_a", CN_LORA_W1_A},
    {".hada_w1_b", CN_LORA_W1_B},
    {".hada_w2_a", CN_LORA_W2_A},
    {".hada_w2_b", CN_LORA_W2_B},
    {".hada_t1", CN_LORA_T1},
    {".hada_t2", CN_LORA_T2},
    {".lokr_w1", CN_LORA_K1},
    {".lokr_w1_a", CN_LORA_K1_A},
    {".lokr_w1_b", CN_LORA_K1_B},
    {".lokr_w2", CN_LORA_K2},
    {".lokr_w2_a", CN_LORA_K2_A},
    {".lokr_w2_b", CN_LORA_K2_B},
    {".lokr_t2", CN_LORA_KT2},
    {".diff", CN_LORA_DIFF},
    {".diff_b", CN_LORA_DIFF_BIAS},
};

/* Kinds whose result isn't a sum, so that leaving them out would give another model than was
 * trained. */
static const char *const unsupported[] = {
    ".dora_scale", ".lora_magnitude_vector", ".oft_blocks", ".oft_diag", ".on_input", ".a1.weight"};

static const struct {
    const char *prefix;
    cn_lora_network network;
} prefixes[] = {
    {"lora_unet_", CN_LORA_UNET},    {"lora_te1_", CN_LORA_TEXT},
    {"lora_te_", CN_LORA_TEXT},      {"unet.", CN_LORA_UNET},
    {"text_encoder.", CN_LORA_TEXT}, {"base_model.model.", CN_LORA_EITHER},
    {"lycoris_", CN_LORA_EITHER},    {"diffusion_model.", CN_LORA_UNET},
};

static bool ends_with(const char *name, size_t n, const char *ending)
{
    size_t e = strlen(ending);
    return n > e && !memcmp(name + n - e, ending, e);
}

/* Puts `to` for the first `from` in key, where it stands at the end if at_end. */
static void rename_in(char *key, size_t cap, const char *from, const char *to, bool at_end)
{
    char *at = strstr(key, from), rest[CN_NAME_MAX];
    if (!at || (at_end && at[strlen(from)])) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, cap - (size_t)(at - key), "%s%s", to, rest);
}

/* A module's name, network prefix cut off, to its key; false when it is longer than any name
 * here. */
static bool make_key(const char *name, size_t n, char key[CN_NAME_MAX])
{
    if (n + 16 >= CN_NAME_MAX) return false;
    for (size_t i = 0; i < n; i++) key[i] = name[i] == '.' ? '_' : name[i];
    key[n] = 0;
    return true;
}

/* What older diffusers called the same modules. */
static void modernize(char key[CN_NAME_MAX])
{
    rename_in(key, CN_NAME_MAX, "_processor_", "_", false);
    if (strstr(key, "self_attn_to_")) {
        rename_in(key, CN_NAME_MAX, "self_attn_to_out", "self_attn_out_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_q", "self_attn_q_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_k", "self_attn_k_proj", true);
        rename_in(key, CN_NAME_MAX, "self_attn_to_v", "self_attn_v_proj", true);
    } else {
        rename_in(key, CN_NAME_MAX, "_to_out", "_to_out_0", true);
    }
}

/* --- the file's modules ----------------------------------------------------------------------- */

static cn_status module_of(cn_ctx *ctx, cn_lora *l, const char *key, cn_lora_network network,
                           cn_lora_module **out)
{
    /* A module's tensors follow one another, or nearly, since names are sorted. */
    for (int64_t i = l->n; i-- > CN_MAX(l->n - 64, (int64_t)0);)
        if (l->modules[i].network == network && !strcmp(l->modules[i].key, key)) {
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
    char *copy = cn_strdup(ctx, key);
    if (!copy) return CN_ENOMEM;
    l->modules[l->n] = (cn_lora_module){.key = copy, .network = network, .scale = 1};
    *out = &l->modules[l->n++];
    return CN_OK;
}

/* The tensor's part and the length of its module's name; false for a name of no known form. */
static bool part_of(const char *name, cn_lora_part *part, size_t *module_n)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < CN_COUNT(endings); i++) {
        if (!ends_with(name, n, endings[i].ending)) continue;
        *part = endings[i].part;
        *module_n = n - strlen(endings[i].ending);
        return true;
    }
    return false;
}

static cn_status take_tensor(cn_ctx *ctx, cn_lora *l, const cn_tensor_info *t)
{
    char key[CN_NAME_MAX];
    const char *name = t->name;
    size_t n = 0;
    cn_lora_part part;
    cn_lora_network network = CN_LORA_EITHER;
    for (size_t i = 0; i < CN_COUNT(unsupported); i++)
        if (ends_with(name, strlen(name), unsupported[i]))
            return cn_fail(ctx, CN_EFORMAT,
                           "%s: a kind of module that isn't supported; LoRA, LoHa, LoKr and whole "
                           "differences are",
                           name);
    if (!part_of(name, &part, &n)) return CN_OK;
    for (size_t i = 0; i < CN_COUNT(prefixes); i++) {
        size_t p = strlen(prefixes[i].prefix);
        if (strncmp(name, prefixes[i].prefix, p) != 0 || n <= p) continue;
        network = prefixes[i].network;
        name += p;
        n -= p;
        break;
    }
    if (!make_key(name, n, key)) return CN_OK;
    modernize(key);
    cn_lora_module *m = NULL;
    CN_TRY(module_of(ctx, l, key, network, &m));
    m->part[part] = t;
    return CN_OK;
}

static void lora_close(cn_lora *l)
{
    if (!l) return;
    for (int64_t i = 0; i < l->n; i++) {
        cn_free(l->modules[i].key);
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
    bool is_weight = ends_with(name, n, weight);
    if (!is_weight && !ends_with(name, n, bias)) return;
    n -= is_weight ? sizeof weight - 1 : sizeof bias - 1;
    target *e = &t->list[t->n];
    *e = (target){.weight = is_weight ? q : NULL, .bias = is_weight ? NULL : q};
    if (make_key(name, n, e->key)) t->n++;
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
    target wanted;
    if (strlen(key) >= sizeof wanted.key) return NULL;
    snprintf(wanted.key, sizeof wanted.key, "%s", key);
    return bsearch(&wanted, t->list, (size_t)t->n, sizeof *t->list, by_key);
}

/* --- matching --------------------------------------------------------------------------------- */

/* The text encoder's modules are called with and without "text_model" in front. */
static const target *find_text(const targets *t, const char *key)
{
    char longer[CN_NAME_MAX + 16];
    const target *found = find_target(t, key);
    if (found) return found;
    snprintf(longer, sizeof longer, "text_model_%s", key);
    return find_target(t, longer);
}

static cn_status match(cn_ctx *ctx, cn_lora_module *m, const targets *unet, const targets *text)
{
    const target *at = NULL;
    if (m->network != CN_LORA_TEXT && (at = find_target(unet, m->key))) m->network = CN_LORA_UNET;
    if (!at && m->network != CN_LORA_UNET && (at = find_text(text, m->key)))
        m->network = CN_LORA_TEXT;
    if (!at) return CN_OK;
    const cn_tensor_info *diff_bias = m->part[CN_LORA_DIFF_BIAS];
    if (at->weight && cn_lora_changes_weight(m)) {
        CN_TRY(cn_lora_check(ctx, m, at->weight->ndim, at->weight->shape));
        m->weight = cn_strdup(ctx, at->weight->diffusers_name);
        if (!m->weight) return CN_ENOMEM;
    }
    if (!diff_bias || !at->bias) return CN_OK;
    if (diff_bias->elements != cn_param_elements(at->bias))
        return cn_fail(ctx, CN_EMISMATCH, "%s: a bias of %lld elements instead of %lld", m->key,
                       (long long)diff_bias->elements, (long long)cn_param_elements(at->bias));
    m->bias = cn_strdup(ctx, at->bias->diffusers_name);
    return m->bias ? CN_OK : CN_ENOMEM;
}

static cn_status match_all(cn_ctx *ctx, cn_lora *l, const cn_params *unet, const cn_params *text)
{
    targets in_unet = {0}, in_text = {0};
    int64_t matched = 0;
    const char *first = NULL;
    cn_status s = list_targets(ctx, unet, &in_unet);
    if (s == CN_OK) s = list_targets(ctx, text, &in_text);
    for (int64_t i = 0; s == CN_OK && i < l->n; i++) {
        s = match(ctx, &l->modules[i], &in_unet, &in_text);
        bool found = l->modules[i].weight || l->modules[i].bias;
        matched += found;
        if (!found && !first) first = l->modules[i].key;
    }
    cn_free(in_unet.list);
    cn_free(in_text.list);
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
    return CN_OK;
}

/* --- peft's configuration, which diffusers writes into the metadata --------------------------- */

/* alpha_pattern names modules by the end of their names. */
static double alpha_of(const cn_lora_module *m, double alpha, const json_t *pattern)
{
    const char *name;
    json_t *value;
    char key[CN_NAME_MAX];
    size_t n = strlen(m->key);
    json_object_foreach((json_t *)(uintptr_t)pattern, name, value)
    {
        if (!json_is_number(value) || !make_key(name, strlen(name), key)) continue;
        size_t k = strlen(key);
        bool whole = n == k || (n > k && m->key[n - k - 1] == '_');
        if (n >= k && whole && !strcmp(m->key + n - k, key)) return json_number_value(value);
    }
    return alpha;
}

static void set_scales(cn_lora *l, const json_t *config, cn_lora_network network, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.lora_alpha", name);
    double alpha = cn_json_number(config, key, 0);
    snprintf(key, sizeof key, "%s.use_rslora", name);
    bool root = cn_json_bool(config, key, false);
    snprintf(key, sizeof key, "%s.alpha_pattern", name);
    const json_t *pattern = json_object_get(config, key);
    for (int64_t i = 0; alpha > 0 && i < l->n; i++) {
        cn_lora_module *m = &l->modules[i];
        const cn_tensor_info *down = m->part[CN_LORA_DOWN];
        if (m->network != network || !down || !down->ndim || down->shape[0] < 1) continue;
        double rank = (double)down->shape[0];
        m->scale = alpha_of(m, alpha, pattern) / (root ? sqrt(rank) : rank);
    }
}

static void read_metadata(cn_lora *l)
{
    const char *text = cn_tensors_metadata(l->file, "lora_adapter_metadata");
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    if (!config) return;
    set_scales(l, config, CN_LORA_UNET, "unet");
    set_scales(l, config, CN_LORA_TEXT, "text_encoder");
    json_decref(config);
}

static cn_status open_lora(cn_ctx *ctx, cn_lora *l, const cn_params *unet, const cn_params *text)
{
    for (int64_t i = 0; i < cn_tensors_count(l->file); i++)
        CN_TRY(take_tensor(ctx, l, cn_tensors_at(l->file, i)));
    if (!l->n)
        return cn_fail(ctx, CN_EMISMATCH, "holds %s, a LoRA is expected",
                       cn_content_name(cn_content_of(l->file)));
    read_metadata(l);
    return match_all(ctx, l, unet, text);
}

cn_status cn_lora_add(cn_ctx *ctx, cn_lora_set *set, const char *path, double unet_weight,
                      double text_weight, const cn_params *unet, const cn_params *text)
{
    cn_lora **list = cn_regrow(ctx, set->list, (size_t)set->n * sizeof(cn_lora *),
                               (size_t)(set->n + 1) * sizeof(cn_lora *));
    if (!list) return CN_ENOMEM;
    set->list = list;
    cn_lora *l = cn_alloc0(ctx, sizeof *l);
    if (!l) return CN_ENOMEM;
    l->weight[CN_LORA_UNET] = unet_weight;
    l->weight[CN_LORA_TEXT] = text_weight;
    cn_status s = (l->path = cn_strdup(ctx, path)) ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_tensors_open(ctx, path, &l->file);
    if (s == CN_OK && (s = open_lora(ctx, l, unet, text)) != CN_OK)
        s = cn_fail_prefix(ctx, s, "%s", path);
    if (s != CN_OK) {
        lora_close(l);
        return s;
    }
    set->list[set->n++] = l;
    return CN_OK;
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

static cn_lora_network network_of(const char *name)
{
    return !strcmp(name, "unet")           ? CN_LORA_UNET
           : !strcmp(name, "text_encoder") ? CN_LORA_TEXT
                                           : CN_LORA_EITHER;
}

static bool changes(const cn_lora_module *m, cn_lora_network network, const cn_param *q)
{
    return m->network == network && ((m->weight && !strcmp(m->weight, q->diffusers_name)) ||
                                     (m->bias && !strcmp(m->bias, q->diffusers_name)));
}

bool cn_lora_changes(const cn_lora_set *set, const char *network, const cn_param *q)
{
    cn_lora_network which = network_of(network);
    for (int i = 0; which != CN_LORA_EITHER && i < set->n; i++)
        for (int64_t k = 0; k < set->list[i]->n; k++)
            if (changes(&set->list[i]->modules[k], which, q)) return true;
    return false;
}

cn_status cn_lora_merge(cn_ctx *ctx, const cn_lora_set *set, const char *network, const cn_param *q,
                        float *plain)
{
    cn_lora_network which = network_of(network);
    if (which == CN_LORA_EITHER) return CN_OK;
    for (int i = 0; i < set->n; i++) {
        const cn_lora *l = set->list[i];
        for (int64_t k = 0; k < l->n; k++)
            if (changes(&l->modules[k], which, q))
                CN_TRY(
                    cn_lora_add_module(ctx, l->file, &l->modules[k], q, l->weight[which], plain));
    }
    return CN_OK;
}
