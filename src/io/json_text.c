/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.c - see json_text.h. */
#include "io/json_text.h"

#include "base/base.h"

#include <string.h>

_Thread_local bool cn_json_parsing;

json_t *cn_json_parse(const char *text, size_t n, size_t flags, json_error_t *error)
{
    enum { LEAST = 1 << 16, TIMES = 8 };
    void *room = n <= SIZE_MAX / (2 * TIMES) ? cn_alloc(NULL, LEAST + TIMES * n) : NULL;
    *error = (json_error_t){.line = -1, .column = -1};
    if (!room) return NULL;
    cn_free(room);
    cn_json_parsing = true;
    json_t *value = json_loadb(text, n, flags, error);
    cn_json_parsing = false;
    return value;
}

json_t *cn_json_parse_string(const char *text, size_t flags)
{
    json_error_t error;
    return text ? cn_json_parse(text, strlen(text), flags, &error) : NULL;
}

/* Remembers a failure that jansson passes over. */
static int add(const char *bytes, size_t n, void *user)
{
    cn_str *s = user;
    cn_str_add(s, bytes, n);
    return s->failed ? -1 : 0;
}

char *cn_json_text(const json_t *value, size_t flags)
{
    cn_str text = {0};
    if (value && json_dump_callback(value, add, &text, flags) == 0 && !text.failed)
        return text.data;
    cn_str_free(&text);
    return NULL;
}

json_t *cn_json_copy(const json_t *object)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)object);
    if (copy && json_object_size(copy) == json_object_size(object)) return copy;
    json_decref(copy);
    return NULL;
}
