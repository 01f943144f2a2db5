/* SPDX-License-Identifier: Apache-2.0 */
/* options_json.c - see options_json.h. */
#include "server/options_json.h"

#include "io/json_text.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 64, TEXT_BYTES = 64 };

/* --- rows ------------------------------------------------------------------------------------- */

static bool is_end(const cn_option *row)
{
    return !row->name && !row->help;
}

static bool is_aside(const cn_option *row)
{
    while (row->name) row--;
    return strcmp(row->help, CN_OPTIONS_ASIDE) == 0;
}

/* By the value's name in the help. */
static bool names_files(const cn_option *row)
{
    static const char *const words[] = {"FILE", "DIR",   "MODEL", "OUT", "IMG",
                                        "DATA", "CHECK", "PATH",  NULL};
    for (int i = 0; row->arg && words[i]; i++)
        if (strstr(row->arg, words[i])) return true;
    return false;
}

static bool is_taken(const options_part *part, const cn_option *row)
{
    if (!row->name || row->type == CN_FIELD_LIST || row->type == CN_FIELD_BYTES || is_aside(row) ||
        names_files(row))
        return false;
    for (int i = 0; part->not &&part->not [i]; i++)
        if (strcmp(part->not [i], row -> name) == 0) return false;
    return true;
}

static const char *member_of(const options_part *part, const cn_option *row, char out[NAME_BYTES])
{
    const size_t skip = part->prefix ? strlen(part->prefix) : 0;
    const char *name = row->name;
    if (skip && strncmp(name, part->prefix, skip) == 0) name += skip;
    snprintf(out, NAME_BYTES, "%s", name);
    for (char *c = out; *c; c++)
        if (*c == '-') *c = '_';
    return out;
}

static const cn_option *row_of(const options_part *part, const char *member)
{
    char name[NAME_BYTES];
    for (const cn_option *row = part->rows; !is_end(row); row++)
        if (is_taken(part, row) && strcmp(member_of(part, row, name), member) == 0) return row;
    return NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

static bool is_switch(const cn_option *row)
{
    return row->type == CN_FIELD_ON || row->type == CN_FIELD_OFF;
}

static bool wrong_type(const char *member, const char *expected, char why[WHY_BYTES])
{
    snprintf(why, WHY_BYTES, "%s: %s is expected", member, expected);
    return false;
}

/* Names of options in the library's messages are those of the command line. */
static bool failed(const cn_ctx *ctx, char why[WHY_BYTES])
{
    const char *said = cn_error(ctx);
    snprintf(why, WHY_BYTES, "%s", strncmp(said, "--", 2) == 0 ? said + 2 : said);
    return false;
}

static bool set(cn_ctx *ctx, const cn_option *row, const char *member, const json_t *value,
                void *target, char why[WHY_BYTES])
{
    char text[TEXT_BYTES];
    if (json_is_null(value)) return true;
    if (is_switch(row)) {
        if (!json_is_boolean(value)) return wrong_type(member, "true or false", why);
        *(bool *)((char *)target + row->offset) = json_is_true(value) == (row->type == CN_FIELD_ON);
        return true;
    }
    if (row->type == CN_FIELD_TEXT || row->type == CN_FIELD_EITHER) {
        if (!json_is_string(value)) return wrong_type(member, "a string", why);
        return cn_option_set(ctx, row, json_string_value(value), target) == CN_OK ||
               failed(ctx, why);
    }
    if (!json_is_number(value)) return wrong_type(member, "a number", why);
    const double v = json_number_value(value);
    if (row->unset && v == 0) return true; /* as if it weren't given */
    const bool whole = row->type != CN_FIELD_NUMBER && v == (double)(int64_t)v;
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else if (whole)
        snprintf(text, sizeof text, "%.0f", v);
    else
        snprintf(text, sizeof text, "%.17g", v);
    return cn_option_set(ctx, row, text, target) == CN_OK || failed(ctx, why);
}

static bool is_extra(const options_extra *extra, const char *member)
{
    for (; extra && extra->name; extra++)
        if (strcmp(extra->name, member) == 0) return true;
    return false;
}

bool options_from_json(cn_ctx *ctx, const options_part *part, const options_extra *extra,
                       const json_t *object, char why[WHY_BYTES])
{
    const char *member;
    json_t *value;
    cn_options_preset(part->rows, part->target);
    json_object_foreach((json_t *)(uintptr_t)object, member, value)
    {
        const cn_option *row = row_of(part, member);
        if (row && !set(ctx, row, member, value, part->target, why)) return false;
        if (row || is_extra(extra, member)) continue;
        snprintf(why, WHY_BYTES, "%.200s: there is no such member; /docs lists them", member);
        return false;
    }
    return true;
}

bool json_whole(const json_t *object, const char *name, int64_t least, int64_t most,
                int64_t otherwise, int64_t *out, char why[WHY_BYTES])
{
    const json_t *value = json_object_get(object, name);
    *out = otherwise;
    if (!value || json_is_null(value)) return true;
    const double v = json_number_value(value);
    /* clients in JavaScript and Python may write 7.0 */
    const bool whole = json_is_integer(value) ||
                       (json_is_real(value) && v > -9e15 && v < 9e15 && v == (double)(int64_t)v);
    if (whole) *out = json_is_integer(value) ? json_integer_value(value) : (int64_t)v;
    if (whole && *out >= least && *out <= most) return true;
    snprintf(why, WHY_BYTES, "%s: a whole number from %lld to %lld is expected", name,
             (long long)least, (long long)most);
    return false;
}

bool json_text(const json_t *object, const char *name, const char *otherwise, const char **out,
               char why[WHY_BYTES])
{
    const json_t *value = json_object_get(object, name);
    *out = otherwise;
    if (!value || json_is_null(value)) return true;
    if (!json_is_string(value)) return wrong_type(name, "a string", why);
    *out = json_string_value(value);
    return true;
}

/* --- JSON Schema ------------------------------------------------------------------------------ */

/* null is as absent. */
static void set_type(json_t *schema, const char *type)
{
    json_object_set_new(schema, "type", json_pack("[s, s]", type, "null"));
}

static void add_words(json_t *schema, const cn_option *row)
{
    json_t *words = json_array();
    for (int i = 0; row->words && row->words[i]; i++)
        json_array_append_new(words, json_string(row->words[i]));
    for (int i = 0; row->name_at && row->name_at(i); i++)
        json_array_append_new(words, json_string(row->name_at(i)));
    /* names of other programs are taken too, where names come from a function */
    const char *key = row->words ? "enum" : "examples";
    if (row->words) json_array_append_new(words, json_null());
    if (json_array_size(words))
        json_object_set_new(schema, key, words);
    else
        json_decref(words);
}

static void add_range(json_t *schema, const cn_option *row)
{
    const bool number = row->type == CN_FIELD_NUMBER;
    set_type(schema, number ? "number" : "integer");
    if (row->type == CN_FIELD_UINT64) {
        json_object_set_new(schema, "minimum", json_integer(0));
        return;
    }
    /* 0 says that nothing was given */
    const double least = row->unset && row->min > 0 ? 0 : row->min;
    json_object_set_new(schema, "minimum",
                        number ? json_real(least) : json_integer((json_int_t)least));
    json_object_set_new(schema, "maximum",
                        number ? json_real(row->max) : json_integer((json_int_t)row->max));
}

static void add_default(json_t *schema, const cn_option *row)
{
    if (is_switch(row)) {
        json_object_set_new(schema, "default", json_boolean(row->type == CN_FIELD_OFF));
        return;
    }
    if (!row->preset) return;
    const bool text = row->type == CN_FIELD_TEXT || row->type == CN_FIELD_EITHER;
    json_t *value =
        text ? json_string(row->preset)
             : cn_json_parse_string(row->preset, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL);
    if (!text && row->type != CN_FIELD_NUMBER && value) {
        const json_int_t whole = (json_int_t)json_real_value(value);
        json_decref(value);
        value = json_integer(whole);
    }
    if (value) json_object_set_new(schema, "default", value);
}

static json_t *row_schema(const cn_option *row)
{
    json_t *schema = json_object();
    if (is_switch(row))
        set_type(schema, "boolean");
    else if (row->type == CN_FIELD_TEXT || row->type == CN_FIELD_EITHER)
        set_type(schema, "string");
    else
        add_range(schema, row);
    add_words(schema, row);
    add_default(schema, row);
    if (row->help) json_object_set_new(schema, "description", json_string(row->help));
    return schema;
}

json_t *options_schema(const options_part *part, const options_extra *extra, const char *required)
{
    char name[NAME_BYTES];
    json_t *properties = json_object();
    for (; extra && extra->name; extra++)
        json_object_set_new(properties, extra->name, cn_json_parse_string(extra->schema, 0));
    for (const cn_option *row = part->rows; !is_end(row); row++)
        if (is_taken(part, row))
            json_object_set_new(properties, member_of(part, row, name), row_schema(row));
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                               "additionalProperties", 0);
    if (required) json_object_set_new(schema, "required", json_pack("[s]", required));
    return schema;
}
