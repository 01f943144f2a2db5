/* SPDX-License-Identifier: Apache-2.0 */
/* kind_options.c - a kind's settings from text and back. */
#include "annotate/annotate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cn_annotate_defaults(const cn_kind *kind, cn_annotate_args *args)
{
    *args = (cn_annotate_args){.kind = kind, .detect_resolution = kind->detect_px};
    for (int i = 0; i < kind->n_options; i++) args->values[i] = kind->options[i].otherwise;
}

static bool parse_bool(const char *text, double *out)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < CN_COUNT(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *out = (double)(i % 2);
            return true;
        }
    return false;
}

static cn_status unknown_option(cn_ctx *ctx, const cn_kind *kind, const char *name, size_t n)
{
    cn_str names = {0};
    for (int i = 0; i < kind->n_options; i++)
        cn_str_addf(&names, "%s%s", i ? ", " : "", kind->options[i].name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "%s has no option '%.*s': it has %s", kind->name,
                          (int)CN_MIN(n, 64), name, names.data ? names.data : "none");
    cn_str_free(&names);
    return s;
}

/* A name of n characters, so that both forms of setting share this; value NULL: the bare name. */
static cn_status set_option(cn_ctx *ctx, cn_annotate_args *args, const char *name, size_t n,
                            const char *value)
{
    const cn_kind *kind = args->kind;
    int i = 0;
    while (i < kind->n_options && !cn_same_name(kind->options[i].name, name, n)) i++;
    if (i == kind->n_options) return unknown_option(ctx, kind, name, n);
    const cn_kind_option *o = &kind->options[i];
    double v = 0;
    if (o->type == CN_OPTION_BOOL) {
        if (!parse_bool(value ? value : "1", &v))
            return cn_fail(ctx, CN_EINVAL, "%s: %s=%.64s: must be 0 or 1", kind->name, o->name,
                           value);
        args->values[i] = v;
        return CN_OK;
    }
    bool whole = o->type == CN_OPTION_INT;
    if (!value)
        return cn_fail(ctx, CN_EINVAL, "%s: %s needs a value: %s=N with N from %g to %g",
                       kind->name, o->name, o->name, o->min, o->max);
    char *end;
    v = strtod(value, &end);
    if (end == value || *end || !(v >= o->min && v <= o->max) || (whole && v != rint(v)))
        return cn_fail(ctx, CN_EINVAL, "%s: %s=%.64s: must be a %snumber from %g to %g", kind->name,
                       o->name, value, whole ? "whole " : "", o->min, o->max);
    args->values[i] = v;
    return CN_OK;
}

cn_status cn_annotate_set(cn_ctx *ctx, cn_annotate_args *args, const char *name, const char *value)
{
    return set_option(ctx, args, name, strlen(name), value);
}

cn_status cn_annotate_parse(cn_ctx *ctx, cn_annotate_args *args, const char *text)
{
    size_t n = strcspn(text, "=");
    return set_option(ctx, args, text, n, text[n] ? text + n + 1 : NULL);
}

void cn_annotate_describe(const cn_annotate_args *args, cn_str *out)
{
    cn_str_adds(out, args->kind->name);
    for (int i = 0; i < args->kind->n_options; i++)
        cn_str_addf(out, " %s=%g", args->kind->options[i].name, args->values[i]);
}

const char *cn_takes_name(cn_takes takes)
{
    static const char *const names[] = {"pictures (PNG, JPEG, WebP, ...)", "label maps (PNG)",
                                        ".npy arrays", "COCO's instances_*.json"};
    return names[takes];
}

static const char between[] = " ,";

/* The settings behind the first word of `text`. */
static cn_status parse_settings(cn_ctx *ctx, cn_annotate_args *args, const char *text)
{
    char word[256];
    for (text += strcspn(text, between); *(text += strspn(text, between));) {
        const size_t n = strcspn(text, between);
        CN_TRY(cn_format(ctx, word, sizeof word, "%.*s", (int)n, text));
        CN_TRY(cn_annotate_parse(ctx, args, word));
        text += n;
    }
    return CN_OK;
}

cn_status cn_annotate_read(cn_ctx *ctx, const char *text, cn_annotate_args *args)
{
    char name[64];
    const cn_kind *kind = NULL;
    const char *alias = NULL;
    cn_annotate_args a;
    text += strspn(text, " ,");
    CN_TRY(cn_format(ctx, name, sizeof name, "%.*s", (int)strcspn(text, " ,"), text));
    CN_TRY(cn_kind_need(ctx, name, &kind));
    cn_annotate_defaults(kind, &a);
    if ((alias = cn_kind_alias_meaning(name))) CN_TRY(parse_settings(ctx, &a, alias));
    CN_TRY(parse_settings(ctx, &a, text));
    *args = a;
    return CN_OK;
}

/* The next kind of *text, behind it settings up to a word that is none of the kind's; *text goes on
 * to that word. */
static cn_status read_link(cn_ctx *ctx, const char **text, cn_annotate_args *args)
{
    char word[256];
    *text += strspn(*text, between);
    size_t n = strcspn(*text, between);
    CN_TRY(cn_format(ctx, word, sizeof word, "%.*s", (int)n, *text));
    CN_TRY(cn_annotate_read(ctx, word, args));
    for (;;) {
        *text += n;
        *text += strspn(*text, between);
        n = strcspn(*text, between);
        if (!n || n >= sizeof word) return CN_OK;
        CN_TRY(cn_format(ctx, word, sizeof word, "%.*s", (int)n, *text));
        if (cn_annotate_parse(ctx, args, word) != CN_OK) return CN_OK;
    }
}

cn_status cn_annotate_read_noted(cn_ctx *ctx, const char *text,
                                 cn_annotate_args links[CN_ANNOTATE_LINKS], int *n)
{
    for (int i = 0; i < CN_ANNOTATE_LINKS; i++) {
        CN_TRY(read_link(ctx, &text, &links[i]));
        *n = i + 1;
        if (*text++ != '|') return CN_OK;
    }
    return cn_fail(ctx, CN_EINVAL, "more than %d kinds behind each other", CN_ANNOTATE_LINKS);
}

cn_mirror cn_annotate_mirror(const cn_annotate_args *links, int n)
{
    cn_mirror all = CN_MIRROR_PLAIN; /* a picture's */
    for (int i = 0; i < n && all != CN_MIRROR_OFF; i++) {
        const cn_kind *kind = links[i].kind;
        const cn_mirror own = kind->mirror_by ? kind->mirror_by(&links[i]) : kind->mirror;
        if (own != CN_MIRROR_INPUT) all = own;
    }
    return all;
}
