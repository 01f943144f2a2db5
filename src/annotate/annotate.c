/* annotate.c - the table of kinds, and their options from text. */
#include "annotate/annotate.h"

#include "annotate/canny.h"
#include "annotate/labels.h"
#include "annotate/pointwise.h"
#include "annotate/resize.h"
#include "annotate/strokes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_status run_none(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                          cn_image **out)
{
    (void)args;
    return cn_image_copy(ctx, in, out);
}

static cn_status run_invert(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                            cn_image **out)
{
    (void)args;
    return cn_image_invert(ctx, in, out);
}

static const cn_annotator_option canny_options[] = {
    {"low", "gradients above this go on from an edge", CN_OPTION_NUMBER, 0, 2040, 100},
    {"high", "gradients above this start an edge", CN_OPTION_NUMBER, 0, 2040, 200},
    {"l2", "Euclidean length of the gradient instead of |dx| + |dy|", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_canny(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                           cn_image **out)
{
    const double *v = args->values;
    return cn_canny(ctx, in, v[0], v[1], v[2] != 0, out);
}

static const cn_annotator_option scribble_options[] = {
    {"mask", "the drawing is white on black already", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run_scribble(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                              cn_image **out)
{
    return cn_scribble(ctx, in, args->values[0] != 0, out);
}

static const cn_annotator_option strokes_options[] = {
    {"threshold", "edges weaker than this after the first blur are dropped", CN_OPTION_NUMBER, 0,
     255, 127},
    {"sigma", "blur in pixels before thinning", CN_OPTION_NUMBER, 0.1, 64, 3},
    {"width", "blur in pixels that widens the thinned lines", CN_OPTION_NUMBER, 0.1, 64, 3},
    {"level", "what is brighter than this after it is a stroke", CN_OPTION_NUMBER, 0, 254, 4},
};

static cn_status run_strokes(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                             cn_image **out)
{
    const double *v = args->values;
    cn_stroke_rules rules = {v[0], v[1], v[2], v[3]};
    return cn_strokes(ctx, in, &rules, out);
}

static cn_status run_seg_ade(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in,
                             cn_image **out)
{
    /* A resized label map would hold classes that are in between. */
    if (args->resolution)
        return cn_fail(ctx, CN_EINVAL,
                       "seg-ade takes label maps as they are: leave out the resolution");
    return cn_ade20k_colors(ctx, in, out);
}

static const cn_annotator kinds[] = {
    {"none", "the picture as it is", NULL, 0, false, run_none},
    {"canny", "Canny edges, white on black", canny_options, CN_COUNT(canny_options), false,
     run_canny},
    {"scribble", "a user's drawing, dark on light, as white strokes on black", scribble_options,
     CN_COUNT(scribble_options), false, run_scribble},
    {"strokes", "a soft edge map (HED, PiDiNet), white on black, as a scribble", strokes_options,
     CN_COUNT(strokes_options), false, run_strokes},
    {"seg-ade", "an ADE20K label map (grey, 0 to 150) in the colours of its classes", NULL, 0,
     false, run_seg_ade},
    {"invert", "dark and light exchanged", NULL, 0, false, run_invert},
};

int cn_annotator_count(void)
{
    return (int)CN_COUNT(kinds);
}

const cn_annotator *cn_annotator_at(int i)
{
    return i >= 0 && i < cn_annotator_count() ? &kinds[i] : NULL;
}

/* Names match with '-' for '_'; the first n characters of `given` count. */
static bool same_name(const char *name, const char *given, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = given[i] == '_' ? '-' : given[i];
        if (!name[i] || (name[i] == '_' ? '-' : name[i]) != c) return false;
    }
    return name[n] == 0;
}

const cn_annotator *cn_annotator_find(const char *name)
{
    for (int i = 0; i < cn_annotator_count(); i++)
        if (same_name(kinds[i].name, name, strlen(name))) return &kinds[i];
    return NULL;
}

cn_status cn_annotator_need(cn_ctx *ctx, const char *name, const cn_annotator **out)
{
    const cn_annotator *kind = cn_annotator_find(name);
    if (kind) {
        *out = kind;
        return CN_OK;
    }
    cn_str names = {0};
    for (int i = 0; i < cn_annotator_count(); i++)
        cn_str_addf(&names, "%s%s", i ? ", " : "", kinds[i].name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "no annotator is called '%.64s': there are %s", name,
                          names.data ? names.data : "others");
    cn_str_free(&names);
    return s;
}

void cn_annotate_defaults(const cn_annotator *kind, cn_annotate_args *args)
{
    *args = (cn_annotate_args){.kind = kind};
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

static cn_status unknown_option(cn_ctx *ctx, const cn_annotator *kind, const char *name, size_t n)
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
    const cn_annotator *kind = args->kind;
    int i = 0;
    while (i < kind->n_options && !same_name(kind->options[i].name, name, n)) i++;
    if (i == kind->n_options) return unknown_option(ctx, kind, name, n);
    const cn_annotator_option *o = &kind->options[i];
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

cn_status cn_annotate(cn_ctx *ctx, const cn_annotate_args *args, const cn_image *in, cn_image **out)
{
    const cn_annotator *kind = args->kind;
    if (args->weights && !kind->uses_weights)
        return cn_fail(ctx, CN_EINVAL, "%s has no network: it takes no weights (%s)", kind->name,
                       args->weights);
    if (!args->weights && kind->uses_weights)
        return cn_fail(ctx, CN_EINVAL, "%s needs its network's weights", kind->name);
    if (args->resolution == 0) return kind->run(ctx, args, in, out);
    cn_image *resized = NULL;
    CN_TRY(cn_image_resize_64(ctx, in, args->resolution, &resized));
    cn_status s = kind->run(ctx, args, resized, out);
    cn_image_destroy(resized);
    return s;
}
