/* SPDX-License-Identifier: Apache-2.0 */
/* cli_recipe.c - the options of a drawing as a text in its PNG file: a JSON list of [name, value]
 * pairs, in the order in which they count. Reading one gives the same list, so writing it again
 * gives the same bytes. */
#include "cli/cli_generate.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const char recipe_key[] = "controlnet.c";

void recipe_free(recipe *r)
{
    for (int i = 0; i < r->n; i++) free(r->list[i].value);
    free(r->list);
    *r = (recipe){0};
}

bool recipe_add(recipe *r, int id, const char *value)
{
    recipe_entry *list = realloc(r->list, ((size_t)r->n + 1) * sizeof *list);
    if (list) r->list = list;
    char *copy = strdup(value ? value : "");
    if (!list || !copy) {
        free(copy);
        cli_error("generate", "out of memory");
        return false;
    }
    list[r->n++] = (recipe_entry){id, copy};
    return true;
}

bool recipe_set(recipe *r, int id, const char *value, int until)
{
    for (int i = r->n - 1; i >= 0 && r->list[i].id != until; i--) {
        if (r->list[i].id != id) continue;
        char *copy = strdup(value ? value : "");
        if (!copy) return cli_error("generate", "out of memory"), false;
        free(r->list[i].value);
        r->list[i].value = copy;
        return true;
    }
    return recipe_add(r, id, value);
}

void recipe_drop(recipe *r, int first, int last)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        if (r->list[i].id >= first && r->list[i].id <= last)
            free(r->list[i].value);
        else
            r->list[n++] = r->list[i];
    r->n = n;
}

static int id_of(const cli_parser *p, const char *name)
{
    for (int i = 0; name && i < p->n_options; i++)
        if (p->options[i].name && strcmp(p->options[i].name, name) == 0) return i;
    return -1;
}

static bool read_list(const cli_parser *p, const char *picture, const json_t *list, recipe *out)
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
        int id = id_of(p, name);
        if (id < 0 || !value) {
            cli_error("generate", "%s: its option %d (%.64s) is not known to this version", picture,
                      (int)i + 1, name ? name : "no name");
            return false;
        }
        if (!recipe_add(out, id, value)) return false;
    }
    return true;
}

bool recipe_read(const cli_parser *p, const char *picture, recipe *out)
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
        json_t *list = json_loads(text, 0, NULL);
        good = read_list(p, picture, list, out);
        json_decref(list);
    }
    cn_free(text);
    cli_context_destroy(ctx);
    return good;
}

char *recipe_text(const cli_parser *p, const recipe *r)
{
    json_t *list = json_array();
    for (int i = 0; list && i < r->n; i++) {
        json_t *pair = json_pack("[s,s]", p->options[r->list[i].id].name, r->list[i].value);
        if (!pair || json_array_append_new(list, pair) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    char *text = list ? json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(list);
    return text;
}
