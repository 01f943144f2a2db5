/* SPDX-License-Identifier: Apache-2.0 */
/* members.c - see members.h. */
#include "server/members.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *schema, *words;
} types[] = {[MEMBER_WHOLE] = {"integer", "a whole number"},
             [MEMBER_NUMBER] = {"number", "a number"},
             [MEMBER_BOOL] = {"boolean", "true or false"},
             [MEMBER_TEXT] = {"string", "a string"},
             [MEMBER_PICTURE] = {"string", "a picture in base64"},
             [MEMBER_LIST] = {"array", "a list"},
             [MEMBER_OBJECT] = {"object", "an object"}};

static bool is_whole(const json_t *value)
{
    const double v = json_number_value(value);
    return json_is_integer(value) ||
           (json_is_real(value) && v > -9e15 && v < 9e15 && v == (double)(int64_t)v);
}

static bool has_type(const member *m, const json_t *value)
{
    switch (m->type) {
    case MEMBER_WHOLE: return is_whole(value);
    case MEMBER_NUMBER: return json_is_number(value);
    case MEMBER_BOOL: return json_is_boolean(value);
    case MEMBER_TEXT:
    case MEMBER_PICTURE: return json_is_string(value);
    case MEMBER_LIST: return json_is_array(value);
    case MEMBER_OBJECT: return json_is_object(value);
    case MEMBER_ANY: return true;
    }
    return false;
}

static const member *find(const member *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}

bool members_check(const member *table, const json_t *object, bool others, char why[WHY_BYTES])
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const member *m = find(table, name);
        if (!m && !others)
            return snprintf(why, WHY_BYTES, "%.200s: there is no such member; /docs lists them",
                            name),
                   false;
        if (!m || json_is_null(value)) continue;
        if (!has_type(m, value))
            return snprintf(why, WHY_BYTES, "%s: %s is expected", name, types[m->type].words),
                   false;
        const double v = json_number_value(value);
        if (m->max > m->min && !(v >= m->min && v <= m->max))
            return snprintf(why, WHY_BYTES, "%s %.15g: %s from %.15g to %.15g is expected", name, v,
                            types[m->type].words, m->min, m->max),
                   false;
    }
    return true;
}

void members_copy(const member *table, const json_t *object, json_t *out)
{
    for (; table->name; table++) {
        json_t *value = table->to ? json_object_get(object, table->name) : NULL;
        if (!value || json_is_null(value)) continue;
        if (json_is_string(value) && !*json_string_value(value)) continue;
        json_object_set(out, table->to, value);
    }
}

static json_t *member_schema(const member *m)
{
    json_t *s = json_object();
    if (m->type != MEMBER_ANY)
        json_object_set_new(s, "type", json_pack("[s, s]", types[m->type].schema, "null"));
    if (m->type == MEMBER_PICTURE) json_object_set_new(s, "contentEncoding", json_string("base64"));
    if (m->max > m->min) {
        json_object_set_new(s, "minimum", json_real(m->min));
        json_object_set_new(s, "maximum", json_real(m->max));
    }
    if (m->help) json_object_set_new(s, "description", json_string(m->help));
    return s;
}

json_t *members_schema(const member *table, const char *required, bool others)
{
    json_t *properties = json_object();
    for (; table->name; table++) json_object_set_new(properties, table->name, member_schema(table));
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                               "additionalProperties", others);
    if (required) json_object_set_new(schema, "required", json_pack("[s]", required));
    return schema;
}

double member_number(const json_t *object, const char *name, double otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

const char *member_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text && *text ? text : NULL;
}

bool member_is_set(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);
    if (!v || json_is_null(v) || json_is_false(v)) return false;
    if (json_is_number(v)) return json_number_value(v) != 0;
    if (json_is_string(v)) return *json_string_value(v) != 0;
    if (json_is_array(v)) return json_array_size(v) != 0;
    return !json_is_object(v) || json_object_size(v) != 0;
}
