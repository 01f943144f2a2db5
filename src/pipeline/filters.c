/* SPDX-License-Identifier: Apache-2.0 */
/* filters.c - which entries a data set leaves out: by size, proportions, caption, scores that came
 * with a picture, and by how much a condition shows. */
#include "pipeline/samples_internal.h"

#include "data/condition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- scores ----------------------------------------------------------------------------------- */

enum { KEY_BYTES = 128 };

typedef struct range {
    char key[KEY_BYTES];
    double min, max;
} range;

/* A number, or `otherwise` where there is none; false: something else. */
static bool read_bound(const char *text, size_t n, double otherwise, double *out)
{
    char number[64], *end = NULL;
    *out = otherwise;
    if (!n) return true;
    if (n >= sizeof number) return false;
    memcpy(number, text, n);
    number[n] = 0;
    *out = strtod(number, &end);
    return end == number + n && isfinite(*out);
}

/* "similarity=0.28:", "pwatermark=:0.5", "punsafe=0:0.1". */
static bool read_range(const char *text, range *out)
{
    const char *equals = strrchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
    if (!colon || equals == text || equals - text >= KEY_BYTES ||
        (colon == equals + 1 && !colon[1]))
        return false;
    snprintf(out->key, sizeof out->key, "%.*s", (int)(equals - text), text);
    return read_bound(equals + 1, (size_t)(colon - equals - 1), -INFINITY, &out->min) &&
           read_bound(colon + 1, strlen(colon + 1), INFINITY, &out->max) && out->min <= out->max;
}

/* A picture without the score isn't known to lie in the range. */
static bool in_range(const json_t *json, const char *text)
{
    range r;
    if (!read_range(text, &r)) return false;
    const json_t *value = json_object_get(json, r.key);
    return json_is_number(value) && json_number_value(value) >= r.min &&
           json_number_value(value) <= r.max;
}

cn_status cn_filters_check(cn_ctx *ctx, const cn_prepare_options *o)
{
    range r;
    for (const char *const *text = o->scores; text && *text; text++)
        if (!read_range(*text, &r))
            return cn_fail(ctx, CN_EINVAL,
                           "score \"%s\": KEY=MIN:MAX is expected, one of both may be left out "
                           "(similarity=0.28:)",
                           *text);
    if (o->max_caption && o->max_caption < o->min_caption)
        return cn_fail(ctx, CN_EINVAL, "captions of %lld to %lld characters: no caption is",
                       (long long)o->min_caption, (long long)o->max_caption);
    if (o->max_density > 0 && o->max_density < o->min_density)
        return cn_fail(ctx, CN_EINVAL, "densities of %g to %g: no condition has one",
                       o->min_density, o->max_density);
    return CN_OK;
}

/* --- entries and conditions ------------------------------------------------------------------- */

/* Of UTF-8: bytes that go on with a character aren't counted. */
static int64_t characters(const char *text)
{
    int64_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

const char *cn_filter_entry(const cn_prepare_options *o, const cn_entry *e, int64_t width,
                            int64_t height)
{
    const int64_t n = characters(e->caption);
    const double short_side = (double)CN_MIN(width, height);
    if (CN_MIN(width, height) < o->min_size) return "small";
    if (o->max_aspect > 0 && (double)CN_MAX(width, height) > o->max_aspect * short_side)
        return "proportions";
    if (n < o->min_caption || (o->max_caption && n > o->max_caption)) return "caption";
    for (const char *const *text = o->scores; text && *text; text++)
        if (!in_range(e->json, *text)) return "score";
    return NULL;
}

static bool one_colour(const cn_image *image)
{
    const size_t n = (size_t)(image->width * image->height * 3);
    return memcmp(image->rgb, image->rgb + 3, n - 3) == 0;
}

static double white_share(const cn_image *image)
{
    const int64_t n = image->width * image->height;
    int64_t white = 0;
    for (int64_t i = 0; i < n; i++) white += image->rgb[3 * i] >= 128;
    return (double)white / (double)n;
}

const char *cn_filter_condition(const cn_prepare_options *o, const cn_image *condition)
{
    if (o->min_density <= 0 && o->max_density <= 0) return NULL;
    if (one_colour(condition)) return o->min_density > 0 ? "blank" : NULL;
    if (!cn_condition_black_and_white(condition->rgb, condition->width * condition->height))
        return NULL;
    const double density = white_share(condition);
    if (density < o->min_density) return "sparse";
    return o->max_density > 0 && density > o->max_density ? "dense" : NULL;
}

bool cn_filters_drop_lookalikes(const cn_prepare_options *o)
{
    return o->duplicates && strcmp(o->duplicates, "keep") != 0;
}

void cn_filters_describe(const cn_prepare_options *o, cn_str *out)
{
    if (o->min_size) cn_str_addf(out, " min-size=%lld", (long long)o->min_size);
    if (o->max_aspect > 0) cn_str_addf(out, " max-aspect=%g", o->max_aspect);
    if (o->min_caption) cn_str_addf(out, " min-caption=%lld", (long long)o->min_caption);
    if (o->max_caption) cn_str_addf(out, " max-caption=%lld", (long long)o->max_caption);
    if (o->min_density > 0) cn_str_addf(out, " min-density=%g", o->min_density);
    if (o->max_density > 0) cn_str_addf(out, " max-density=%g", o->max_density);
    if (cn_filters_drop_lookalikes(o)) cn_str_addf(out, " duplicates=%s", o->duplicates);
    for (const char *const *text = o->scores; text && *text; text++)
        cn_str_addf(out, " score:%s", *text);
}
