/* SPDX-License-Identifier: Apache-2.0 */
/* lora_choice.c - see lora.h.
 *
 * Tags are stable-diffusion-webui's: <lora:NAME>, <lora:NAME:WEIGHT>, <lora:NAME:TEXT:UNET>, the
 * weights also as te=, unet=. As there, tags of other kinds (<hypernet:...>) are taken out as well.
 */
#include "pipeline/lora_choice.h"

#include "model/checkpoint/base_parts.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TAG = 512 };

typedef struct tag {
    char name[MAX_TAG];
    double text, unet;
} tag;

/* --- tags ------------------------------------------------------------------------------------- */

/* The length of "<word:...>" at s, 0 for anything else; *word_n: of the word. */
static size_t tag_at(const char *s, size_t *word_n)
{
    size_t n = 1;
    if (*s != '<') return 0;
    while (isalnum((unsigned char)s[n]) || s[n] == '_') n++;
    *word_n = n - 1;
    if (n == 1 || s[n] != ':') return 0;
    size_t rest = strcspn(s + n + 1, ">");
    return rest && s[n + 1 + rest] == '>' ? n + rest + 2 : 0;
}

static cn_status parse_weight(cn_ctx *ctx, const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end != text && !*end && isfinite(*out)) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "prompt: \"%s\" in a LoRA's tag is no weight", text);
}

/* "name:0.8", "name:te=0.5:unet=1". */
static cn_status parse_tag(cn_ctx *ctx, const char *s, size_t n, tag *t)
{
    char buffer[MAX_TAG], *rest = NULL;
    bool has_unet = false;
    int position = 0;
    CN_TRY(cn_format(ctx, buffer, sizeof buffer, "%.*s", (int)CN_MIN(n, (size_t)MAX_TAG), s));
    char *item = strtok_r(buffer, ":", &rest);
    *t = (tag){.text = 1, .unet = 1};
    CN_TRY(cn_format(ctx, t->name, sizeof t->name, "%s", item ? item : ""));
    while ((item = strtok_r(NULL, ":", &rest))) {
        bool named_text = !strncmp(item, "te=", 3), named_unet = !strncmp(item, "unet=", 5);
        bool named = strchr(item, '=') != NULL;
        if (named && !named_text && !named_unet) continue;
        if (!named) position++;
        if (position > 2 && !named) continue;
        double *to = named_unet || (!named && position == 2) ? &t->unet : &t->text;
        CN_TRY(parse_weight(ctx, named ? strchr(item, '=') + 1 : item, to));
        has_unet = has_unet || to == &t->unet;
    }
    if (!has_unet) t->unet = t->text;
    return CN_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

static cn_status find_file(cn_ctx *ctx, const char *dir, const char *name, char out[CN_PATH_BYTES])
{
    static const char *const endings[] = {".safetensors", ".pt", ".ckpt", ".bin",
                                          "" /* a folder */};
    const bool inside = !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    for (size_t i = 0; inside && i < CN_COUNT(endings); i++) {
        CN_TRY(cn_format(ctx, out, CN_PATH_BYTES, "%s/%s%s", dir, name, endings[i]));
        if (cn_file_exists(out)) return CN_OK;
    }
    return cn_fail(ctx, CN_EIO, "%s: holds no LoRA \"%s\" (%s.safetensors), which the prompt names",
                   dir, name, name);
}

/* Modules are found by the networks' parameters, which need no values for that. */
typedef struct networks {
    cn_params *of[1 + CN_MAX_TEXT_ENCODERS]; /* the UNet, then the text encoders */
    int n;
} networks;

static cn_status declare(cn_ctx *ctx, const cn_base *base, networks *nets)
{
    const int n = 1 + cn_family_of(base)->n_text;
    for (nets->n = 0; nets->n < n; nets->n++) {
        const cn_net net = nets->n ? cn_net_text(nets->n - 1) : CN_NET_UNET;
        CN_TRY(cn_net_declare(ctx, net, cn_base_config_of(base, net), &nets->of[nets->n]));
    }
    return CN_OK;
}

static void networks_free(networks *n)
{
    for (int i = 0; i < n->n; i++) cn_params_destroy(n->of[i]);
}

static cn_status add_file(cn_ctx *ctx, cn_pipeline_loras *l, const char *path, double unet_weight,
                          double text_weight, const networks *nets)
{
    return cn_lora_add(ctx, &l->set, path, unet_weight, text_weight,
                       (const cn_params *const *)nets->of, nets->n);
}

cn_status cn_pipeline_loras_open(cn_ctx *ctx, cn_base *base, const cn_pipeline_options *o,
                                 cn_pipeline_loras *out)
{
    networks n = {0};
    base->loras = &out->set;
    if (o->lora_dir && !(out->dir = cn_strdup(ctx, o->lora_dir))) return CN_ENOMEM;
    if (o->lora_dir && !cn_dir_exists(o->lora_dir))
        return cn_fail(ctx, CN_EIO, "%s: no such folder of LoRAs", o->lora_dir);
    if (!o->n_loras) return CN_OK;
    cn_status s = declare(ctx, base, &n);
    for (int i = 0; s == CN_OK && i < o->n_loras; i++) {
        const cn_lora_option *one = &o->loras[i];
        s = isfinite(one->weight) ? add_file(ctx, out, one->path, one->weight, one->weight, &n)
                                  : cn_fail(ctx, CN_EINVAL, "%s: weight %g: a number is expected",
                                            one->path, one->weight);
    }
    networks_free(&n);
    out->n_fixed = out->set.n;
    return s;
}

void cn_pipeline_loras_close(cn_pipeline_loras *l)
{
    cn_lora_set_free(&l->set);
    cn_free(l->dir);
    cn_free(l->wanted);
    *l = (cn_pipeline_loras){0};
}

static cn_status add_tag(cn_ctx *ctx, cn_pipeline_loras *l, const char *s, size_t n,
                         const networks *nets)
{
    char path[CN_PATH_BYTES];
    tag t;
    CN_TRY(parse_tag(ctx, s, n, &t));
    if (!l->dir)
        return cn_fail(ctx, CN_EINVAL,
                       "the prompt names the LoRA %s; --lora-dir says in which folder it is",
                       t.name);
    CN_TRY(find_file(ctx, l->dir, t.name, path));
    return add_file(ctx, l, path, t.unet, t.text, nets);
}

/* Every <lora:...> of the list (tags one behind the other) joins the set. */
static cn_status open_tags(cn_ctx *ctx, const cn_base *base, cn_pipeline_loras *l, const char *tags)
{
    networks nets = {0};
    size_t length, word;
    cn_status s = *tags ? declare(ctx, base, &nets) : CN_OK;
    for (; s == CN_OK && *tags; tags += length) {
        length = tag_at(tags, &word);
        s = add_tag(ctx, l, tags + word + 2, length - word - 3, &nets);
    }
    networks_free(&nets);
    return s;
}

/* The prompt without its tags, and those of LoRAs. */
static void split(cn_ctx *ctx, const char *prompt, cn_str *text, cn_str *tags)
{
    size_t length, word;
    for (; *prompt; prompt += length) {
        length = tag_at(prompt, &word);
        if (!length) {
            length = 1;
            cn_str_add(text, prompt, 1);
        } else if (!strncmp(prompt + 1, "lora:", 5) || !strncmp(prompt + 1, "lyco:", 5)) {
            cn_str_add(tags, prompt, length);
        } else {
            cn_log(ctx, CN_LOG_WARN, "prompt: %.*s is left out; only <lora:...> is known",
                   (int)CN_MIN(length, (size_t)100), prompt);
        }
    }
}

cn_status cn_pipeline_loras_choose(cn_ctx *ctx, cn_base *base, cn_pipeline_loras *l,
                                   const char *prompt, bool webui, char **text, bool *changed)
{
    cn_str rest = {0}, tags = {0};
    if (webui || l->dir)
        split(ctx, prompt, &rest, &tags);
    else
        cn_str_adds(&rest, prompt);
    const char *want = tags.data ? tags.data : "";
    cn_status s = rest.failed || tags.failed ? cn_fail(ctx, CN_ENOMEM, "out of memory") : CN_OK;
    *changed = strcmp(want, l->wanted ? l->wanted : "") != 0;
    if (s == CN_OK && *changed) {
        cn_lora_set_truncate(&l->set, l->n_fixed);
        cn_free(l->wanted);
        l->wanted = NULL;
        s = open_tags(ctx, base, l, want);
        if (s == CN_OK && !(l->wanted = cn_strdup(ctx, want))) s = CN_ENOMEM;
    }
    if (s == CN_OK && !(*text = cn_strdup(ctx, rest.data ? rest.data : ""))) s = CN_ENOMEM;
    cn_str_free(&rest);
    cn_str_free(&tags);
    return s;
}
