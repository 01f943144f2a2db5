/* SPDX-License-Identifier: Apache-2.0 */
/* option.c - fields of a struct of options by their rows: read from text, set to their defaults,
 * checked. A value that comes from text and one that a caller has put into the struct are refused
 * by the same rule and in the same words. */
#include "base/option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_end(const cn_option *row)
{
    return !row->name && !row->help;
}

enum { MOST_VALUES = 16 };

/* --- ranges and words --------------------------------------------------------------------------
 */

/* Of NUMBER: 0 says that nothing was given, and is no value. */
static bool is_above_min(const cn_option *row)
{
    return row->type == CN_FIELD_NUMBER && row->unset && row->min == 0;
}

/* NaN is out of any range. */
static bool is_allowed(const cn_option *row, double v)
{
    return v >= row->min && v <= row->max && !(is_above_min(row) && v == 0);
}

/* --- what would be right ---------------------------------------------------------------------- */

static cn_status wrong_numbers(cn_ctx *ctx, const cn_option *row, const char *value)
{
    return cn_fail(ctx, CN_EINVAL,
                   "--%s %s: must be %d whole numbers from %.15g to %.15g with commas between",
                   row->name, value, row->values, row->min, row->max);
}

static cn_status wrong_number(cn_ctx *ctx, const cn_option *row, const char *value)
{
    const char *kind = row->type == CN_FIELD_NUMBER ? "a number" : "a whole number";
    const char *end = is_above_min(row) ? ", and above 0" : "";
    if (row->type == CN_FIELD_UINT64)
        return cn_fail(ctx, CN_EINVAL, "--%s %s: must be a whole number from 0 to %llu", row->name,
                       value, (unsigned long long)UINT64_MAX);
    return cn_fail(ctx, CN_EINVAL, "--%s %s: must be %s from %.15g to %.15g%s", row->name, value,
                   kind, row->min, row->max, end);
}

/* --- from text -------------------------------------------------------------------------------- */

static bool read_whole(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && !errno;
}

static bool read_uint64(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno;
}

static bool read_number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end;
}

/* K, M, G and T are powers of 1024. */
static bool read_bytes(const char *text, size_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double v = strtod(text, &end);
    if (end == text) return false;
    for (int i = 0; *end && units[i]; i++) {
        if ((*end | 32) != (units[i] | 32)) continue;
        v *= (double)(UINT64_C(1) << (10 * (i + 1)));
        end++;
        break;
    }
    *out = v > 0 && v < 9e18 ? (size_t)v : 0;
    return !*end && *out;
}

static cn_status set_whole(cn_ctx *ctx, const cn_option *row, const char *text, void *field)
{
    int64_t v;
    if (!read_whole(text, &v) || !is_allowed(row, (double)v)) return wrong_number(ctx, row, text);
    if (row->type == CN_FIELD_INT)
        *(int *)field = (int)v;
    else
        *(int64_t *)field = v;
    return CN_OK;
}

static cn_status set_whole_list(cn_ctx *ctx, const cn_option *row, const char *text, int64_t *field)
{
    const char *at = text;
    int64_t list[MOST_VALUES];
    if (row->values > MOST_VALUES)
        return cn_fail(ctx, CN_EINTERNAL, "--%s has %d values", row->name, row->values);
    for (int i = 0; i < row->values; i++) {
        char *end;
        errno = 0;
        list[i] = strtoll(at, &end, 10);
        if (end == at || errno || *end != (i + 1 < row->values ? ',' : 0) ||
            !is_allowed(row, (double)list[i]))
            return wrong_numbers(ctx, row, text);
        at = end + 1;
    }
    memcpy(field, list, (size_t)row->values * sizeof *field);
    return CN_OK;
}

static cn_status set_number(cn_ctx *ctx, const cn_option *row, const char *text, double *field)
{
    double v;
    if (!read_number(text, &v) || !is_allowed(row, v)) return wrong_number(ctx, row, text);
    *field = v;
    return CN_OK;
}

cn_status cn_option_set(cn_ctx *ctx, const cn_option *row, const char *text, void *options)
{
    void *field = (char *)options + row->offset;
    uint64_t u;
    size_t n;
    int word;
    switch (row->type) {
    case CN_FIELD_ON:
    case CN_FIELD_OFF: *(bool *)field = row->type == CN_FIELD_ON; return CN_OK;
    case CN_FIELD_INT:
    case CN_FIELD_INT64: return set_whole(ctx, row, text, field);
    case CN_FIELD_INT64S: return set_whole_list(ctx, row, text, field);
    case CN_FIELD_NUMBER: return set_number(ctx, row, text, field);
    case CN_FIELD_EITHER:
        CN_TRY(cn_word_find(ctx, row->name, text, row->words, &word));
        *(bool *)field = word == 1;
        return CN_OK;
    case CN_FIELD_UINT64:
        if (!read_uint64(text, &u)) return wrong_number(ctx, row, text);
        *(uint64_t *)field = u;
        return CN_OK;
    case CN_FIELD_BYTES:
        if (!read_bytes(text, &n))
            return cn_fail(ctx, CN_EINVAL, "--%s %s: a size such as 8G or 500M is expected",
                           row->name, text);
        *(size_t *)field = n;
        return CN_OK;
    case CN_FIELD_TEXT:
        if (row->words) CN_TRY(cn_word_find(ctx, row->name, text, row->words, &word));
        *(const char **)field = text;
        return CN_OK;
    case CN_FIELD_LIST: break;
    }
    return cn_fail(ctx, CN_EINTERNAL, "--%s is a list", row->name);
}

/* --- whole structs ---------------------------------------------------------------------------- */

void cn_options_preset(const cn_option *rows, void *options)
{
    for (; !is_end(rows); rows++) {
        if (!rows->preset) continue;
        if (rows->type == CN_FIELD_OFF)
            *(bool *)((char *)options + rows->offset) = true;
        else /* that every preset can be read is a unit test */
            (void)cn_option_set(NULL, rows, rows->preset, options);
    }
}

static cn_status check_number(cn_ctx *ctx, const cn_option *row, double v)
{
    char text[32];
    if (is_allowed(row, v) || (row->unset && v == 0)) return CN_OK;
    snprintf(text, sizeof text, "%.15g", v);
    return wrong_number(ctx, row, text);
}

static cn_status check_text(cn_ctx *ctx, const cn_option *row, const char *text)
{
    if (!text && row->required && !row->preset)
        return cn_fail(ctx, CN_EINVAL, "--%s is missing", row->name);
    int word;
    return text && row->words ? cn_word_find(ctx, row->name, text, row->words, &word) : CN_OK;
}

static cn_status check_whole_list(cn_ctx *ctx, const cn_option *row, const int64_t *list)
{
    char text[24];
    for (int i = 0; i < row->values; i++) {
        if (is_allowed(row, (double)list[i])) continue;
        snprintf(text, sizeof text, "%lld", (long long)list[i]);
        return wrong_numbers(ctx, row, text);
    }
    return CN_OK;
}

cn_status cn_options_check(cn_ctx *ctx, const cn_option *rows, const void *options)
{
    for (; !is_end(rows); rows++) {
        const void *field = (const char *)options + rows->offset;
        if (!rows->name) continue;
        switch (rows->type) {
        case CN_FIELD_INT: CN_TRY(check_number(ctx, rows, *(const int *)field)); break;
        case CN_FIELD_INT64:
            CN_TRY(check_number(ctx, rows, (double)*(const int64_t *)field));
            break;
        case CN_FIELD_INT64S: CN_TRY(check_whole_list(ctx, rows, field)); break;
        case CN_FIELD_NUMBER: CN_TRY(check_number(ctx, rows, *(const double *)field)); break;
        case CN_FIELD_TEXT: CN_TRY(check_text(ctx, rows, *(const char *const *)field)); break;
        default: break;
        }
    }
    return CN_OK;
}
