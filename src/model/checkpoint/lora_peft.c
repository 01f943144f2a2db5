/* SPDX-License-Identifier: Apache-2.0 */
/* lora_peft.c - peft's configuration of an adapter, which says what its tensors don't: by how much
 * they are scaled.
 *
 * peft writes it as adapter_config.json beside the tensors, diffusers into their file's metadata,
 * with the network before each key. A pattern gives some modules another alpha or rank; it is a
 * regular expression for the end of a module's name (peft's get_pattern_key). Untrusted, so what
 * matching may cost is limited.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/checkpoint/lora_internal.h"

#include <math.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum { MATCH_LIMIT = 100000 };

/* A configuration's keys, behind `prefix`. */
typedef struct config {
    const json_t *json;
    const char *prefix;
} config;

static const json_t *value_of(const config *c, const char *name)
{
    char key[96];
    snprintf(key, sizeof key, "%s%s", c->prefix, name);
    return json_object_get(c->json, key);
}

static double number_of(const config *c, const char *name, double otherwise)
{
    const json_t *v = value_of(c, name);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* --- patterns --------------------------------------------------------------------------------- */

static cn_status matches(cn_ctx *ctx, const char *pattern, const char *name, bool *out)
{
    cn_str text = {0};
    int code = 0;
    size_t at = 0;
    cn_str_addf(&text, "^(?:.*\\.)?(?:%s)$", pattern);
    pcre2_code *re =
        text.failed ? NULL
                    : pcre2_compile((PCRE2_SPTR)text.data, text.len, PCRE2_UTF, &code, &at, NULL);
    pcre2_match_data *match = re ? pcre2_match_data_create(1, NULL) : NULL;
    pcre2_match_context *limits = re ? pcre2_match_context_create(NULL) : NULL;
    cn_status s = match && limits ? CN_OK : cn_fail(ctx, CN_ENOMEM, "out of memory for a pattern");
    if (!re && !text.failed)
        s = cn_fail(ctx, CN_EFORMAT, "the pattern \"%.100s\" is no regular expression", pattern);
    if (s == CN_OK) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        code = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, match, limits);
        *out = code >= 0;
        if (code < 0 && code != PCRE2_ERROR_NOMATCH)
            s = cn_fail(ctx, CN_EFORMAT, "the pattern \"%.100s\" can't be matched", pattern);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    cn_str_free(&text);
    return s;
}

/* The value of the first pattern that fits the module. */
static cn_status patterned(cn_ctx *ctx, const config *c, const char *name, const char *module,
                           double *value)
{
    const char *pattern;
    json_t *v, *patterns = (json_t *)(uintptr_t)value_of(c, name);
    json_object_foreach(patterns, pattern, v)
    {
        bool fits = false;
        CN_TRY(matches(ctx, pattern, module, &fits));
        if (!fits) continue;
        if (!json_is_number(v))
            return cn_fail(ctx, CN_EFORMAT, "%s: \"%.100s\" must be a number", name, pattern);
        *value = json_number_value(v);
        return CN_OK;
    }
    return CN_OK;
}

/* --- scales ----------------------------------------------------------------------------------- */

/* Of what is made of factors; 0: the tensors don't tell. */
static int64_t rank_of(const cn_lora_module *m)
{
    static const cn_lora_part first[] = {CN_LORA_DOWN, CN_LORA_W1_B, CN_LORA_K2_B, CN_LORA_K1_B};
    for (size_t i = 0; i < CN_COUNT(first); i++) {
        const cn_tensor_info *t = m->part[first[i]];
        if (t && t->ndim) return t->shape[0];
    }
    return 0;
}

static bool is_scaled(const cn_lora_module *m)
{
    return m->part[CN_LORA_DOWN] || m->part[CN_LORA_W1_B] || m->part[CN_LORA_K1] ||
           m->part[CN_LORA_K1_B];
}

static cn_status set_scale(cn_ctx *ctx, const config *c, cn_lora_module *m)
{
    double alpha = number_of(c, "lora_alpha", number_of(c, "alpha", 0)), rank = 0;
    const json_t *root = value_of(c, "use_rslora");
    CN_TRY(patterned(ctx, c, "alpha_pattern", m->name, &alpha));
    rank = (double)rank_of(m);
    if (rank == 0) {
        rank = number_of(c, "r", 0);
        CN_TRY(patterned(ctx, c, "rank_pattern", m->name, &rank));
    }
    if (alpha != 0 && rank > 0) m->scale = alpha / (json_is_true(root) ? sqrt(rank) : rank);
    return CN_OK;
}

/* Names by their ends, or a regular expression for all of it. */
static cn_status find_feedforward(cn_ctx *ctx, const config *c, cn_lora_module *m)
{
    const json_t *list = value_of(c, "feedforward_modules");
    const size_t n = strlen(m->name);
    if (json_is_string(list))
        return matches(ctx, json_string_value(list), m->name, &m->feedforward);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *end = json_string_value(json_array_get(list, i));
        if (!end) continue;
        const size_t k = strlen(end);
        if (n >= k && !strcmp(m->name + n - k, end) && (n == k || m->name[n - k - 1] == '.'))
            m->feedforward = true;
    }
    return CN_OK;
}

static cn_status configure(cn_ctx *ctx, cn_lora *l, const config *c, cn_net net)
{
    for (int64_t i = 0; i < l->n; i++) {
        cn_lora_module *m = &l->modules[i];
        if (m->net != net) continue;
        if (is_scaled(m)) CN_TRY(set_scale(ctx, c, m));
        if (m->part[CN_LORA_IA3_FACTOR]) CN_TRY(find_feedforward(ctx, c, m));
    }
    return CN_OK;
}

static cn_status read_metadata(cn_ctx *ctx, cn_lora *l, const char *text)
{
    json_t *json = NULL;
    CN_TRY(cn_json_load_memory(ctx, "metadata lora_adapter_metadata", text, strlen(text), &json));
    cn_status s = CN_OK;
    for (int net = 0; s == CN_OK && net < CN_NETS; net++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%s.", cn_net_kind_of((cn_net)net)->name);
        s = configure(ctx, l, &(config){json, prefix}, (cn_net)net);
    }
    json_decref(json);
    return s;
}

/* Whether peft named the modules: its configuration is needed. */
static bool is_pefts(const cn_lora *l)
{
    return cn_tensors_count(l->file) > 0 &&
           !strncmp(cn_tensors_at(l->file, 0)->name, CN_LORA_PEFT, strlen(CN_LORA_PEFT));
}

cn_status cn_lora_read_peft(cn_ctx *ctx, cn_lora *l)
{
    char path[CN_PATH_BYTES];
    json_t *json = NULL;
    const char *slash = strrchr(l->path, '/');
    const char *text = cn_tensors_metadata(l->file, "lora_adapter_metadata");
    if (text) return read_metadata(ctx, l, text);
    if (!is_pefts(l)) return CN_OK;
    CN_TRY(cn_format(ctx, path, sizeof path, "%.*sadapter_config.json",
                     slash ? (int)(slash + 1 - l->path) : 0, l->path));
    if (!cn_file_exists(path)) {
        cn_log(ctx, CN_LOG_WARN,
               "%s: no adapter_config.json beside it, which says peft's alpha; its modules are "
               "taken unscaled",
               l->path);
        return CN_OK;
    }
    CN_TRY(cn_json_load_file(ctx, path, &json));
    const config c = {json, ""};
    cn_status s = configure(ctx, l, &c, CN_NETS);
    json_decref(json);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}
