/* SPDX-License-Identifier: Apache-2.0 */
/* cli_recipe.c - the options of a drawing as a text in its PNG file: a JSON list of [name, value]
 * pairs, in the order in which they count. Reading one gives the same list, so writing it again
 * gives the same bytes. */
#include "cli/cli_generate.h"

#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const char recipe_key[] = "controlnet.c";

void recipe_free(cli_settings *r)
{
    for (int i = 0; i < r->n; i++) free((char *)(uintptr_t)r->list[i].value);
    free(r->list);
    *r = (cli_settings){0};
}

/* A copy with a value of its own. */
static bool copy_setting(const cli_setting *g, cli_setting *out)
{
    *out = *g;
    out->value = strdup(g->value ? g->value : "");
    if (!out->value) cli_error("generate", "out of memory");
    return out->value != NULL;
}

bool recipe_add(cli_settings *r, const cli_setting *g)
{
    cli_setting *list = realloc(r->list, ((size_t)r->n + 1) * sizeof *list);
    if (!list) return cli_error("generate", "out of memory"), false;
    r->list = list;
    if (!copy_setting(g, &list[r->n])) return false;
    r->n++;
    return true;
}

bool recipe_set(cli_settings *r, const cli_setting *g)
{
    for (int i = r->n - 1; i >= 0; i--) {
        cli_setting *at = &r->list[i];
        if (at->row == g->row) {
            free((char *)(uintptr_t)at->value);
            return copy_setting(g, at);
        }
        if (generate_same_list(at, g) && generate_begins_list(at)) break;
    }
    return recipe_add(r, g);
}

void recipe_drop(cli_settings *r, const cli_setting *of)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        if (generate_same_list(&r->list[i], of))
            free((char *)(uintptr_t)r->list[i].value);
        else
            r->list[n++] = r->list[i];
    r->n = n;
}

static bool read_list(const cli_parser *p, const char *picture, const json_t *list,
                      cli_settings *out)
{
    size_t i;
    const json_t *pair;
    if (!json_is_array(list)) {
        cli_error("generate", "%s: its options are damaged", picture);
        return false;
    }
    json_array_foreach(list, i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        const char *value = json_string_value(json_array_get(pair, 1));
        cli_setting g;
        if (!name || !value || !cli_find(p, name, &g)) {
            cli_error("generate", "%s: its option %d (%.64s) is not known to this version", picture,
                      (int)i + 1, name ? name : "no name");
            return false;
        }
        g.value = value;
        if (!recipe_add(out, &g)) return false;
    }
    return true;
}

bool recipe_read(const cli_parser *p, const char *picture, cli_settings *out)
{
    cn_ctx *ctx = cli_context_create("generate", 1);
    char *text = NULL;
    if (!ctx) return false;
    bool good = cn_png_text(ctx, picture, recipe_key, &text) == CN_OK;
    if (!good)
        cli_failed(ctx, "generate");
    else if (!text)
        good = (cli_error("generate",
                          "%s: holds no options; a PNG file that generate wrote is "
                          "expected",
                          picture),
                false);
    if (good) {
        json_t *list = cn_json_parse_string(text, 0);
        good = read_list(p, picture, list, out);
        json_decref(list);
    }
    cn_free(text);
    cli_context_destroy(ctx);
    return good;
}

char *recipe_text(const cli_settings *r)
{
    json_t *list = json_array();
    for (int i = 0; list && i < r->n; i++) {
        json_t *pair = json_pack("[s,s]", r->list[i].row->name, r->list[i].value);
        if (!pair || json_array_append_new(list, pair) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    char *text = cn_json_text(list, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(list);
    return text;
}
