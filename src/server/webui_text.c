/* SPDX-License-Identifier: Apache-2.0 */
/* webui_text.c - "parameters" of a PNG read as stable-diffusion-webui does
 * (modules/infotext_utils.py). */
#include "server/webui.h"

#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char negative[] = "Negative prompt:";

static void set_text(json_t *out, const char *key, const char *text, size_t n)
{
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
    while (n && *text == ' ') text++, n--;
    json_object_set_new(out, key, json_stringn(text, n));
}

/* A value in quotes is JSON; *end: behind it. */
static json_t *read_quoted(const char *at, const char **end)
{
    json_error_t error;
    const char *close = at + 1;
    while (*close && *close != '"') close += *close == '\\' && close[1] ? 2 : 1;
    *end = *close ? close + 1 : close;
    return cn_json_parse(at, (size_t)(*end - at), JSON_DECODE_ANY, &error);
}

/* "Key: value, Key: "quoted, value", ..." */
static void read_settings(json_t *out, const char *at)
{
    while (*at) {
        char key[64];
        while (*at == ' ' || *at == ',' || *at == '\n') at++;
        const size_t n = strcspn(at, ":\n");
        if (at[n] != ':' || n >= sizeof key) return;
        snprintf(key, sizeof key, "%.*s", (int)n, at);
        at += n + 1;
        while (*at == ' ') at++;
        if (*at == '"') {
            json_t *value = read_quoted(at, &at);
            if (value) json_object_set_new(out, key, value);
        } else {
            const size_t length = strcspn(at, ",\n");
            set_text(out, key, at, length);
            at += length;
        }
    }
}

/* The last line that begins with "Steps: "; NULL. */
static const char *find_settings(const char *text)
{
    const char *found = strncmp(text, "Steps: ", 7) == 0 ? text : NULL;
    for (const char *at = text; (at = strstr(at, "\nSteps: ")); at++) found = at + 1;
    return found;
}

json_t *webui_parse_parameters(const char *text)
{
    json_t *out = json_object();
    const char *settings = find_settings(text), *end = settings ? settings : text + strlen(text);
    const char *without = strncmp(text, negative, sizeof negative - 1) == 0 ? text : NULL;
    for (const char *at = text; !without && (at = strstr(at, "\nNegative prompt:")) && at < end;)
        without = ++at;
    if (without && without >= end) without = NULL;
    set_text(out, "Prompt", text, (size_t)((without ? without : end) - text));
    if (without) {
        const char *from = without + sizeof negative - 1;
        set_text(out, "Negative prompt", from, (size_t)(end - from));
    } else {
        json_object_set_new(out, "Negative prompt", json_string(""));
    }
    if (settings) read_settings(out, settings);
    return out;
}
