/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate.c - controlnet generate.
 *
 * Options are collected first, because --from puts a picture's options before those of the command
 * line. What makes the picture is kept as a recipe (cli_recipe.c), which goes into the file.
 */
#include "cli/cli_generate.h"
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Whether option i is the first on the line that begins its list. */
static bool replaces_list(const cli_settings *line, int i)
{
    for (int k = 0; k < i; k++)
        if (generate_begins_list(&line->list[k]) &&
            generate_same_list(&line->list[k], &line->list[i]))
            return false;
    return true;
}

/* Puts what was given over what the picture holds. */
static bool merge(const cli_settings *line, cli_settings *recipe)
{
    for (int i = 0; i < line->n; i++) {
        const cli_setting *g = &line->list[i];
        if (!generate_makes_picture(g)) continue;
        if (!generate_begins_list(g)) {
            if (!recipe_set(recipe, g)) return false;
            continue;
        }
        if (replaces_list(line, i)) recipe_drop(recipe, g);
        if (!recipe_add(recipe, g)) return false;
    }
    return true;
}

/* The recipe, and behind it what else was given. */
static bool join(const cli_settings *line, const cli_settings *recipe, cli_settings *all)
{
    for (int i = 0; i < recipe->n; i++)
        if (generate_makes_picture(&recipe->list[i]) && !recipe_add(all, &recipe->list[i]))
            return false;
    for (int i = 0; i < line->n; i++)
        if (!generate_makes_picture(&line->list[i]) && !recipe_add(all, &line->list[i]))
            return false;
    return true;
}

static bool choose_seed(const cli_parser *p, request *r, cli_settings *recipe)
{
    uint32_t seed;
    char text[16];
    cli_setting g;
    r->generate.seed = (uint64_t)r->seed;
    if (r->seed >= 0) return true;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        cli_error("generate", "no random seed: %s", strerror(errno));
        return false;
    }
    r->generate.seed = seed;
    fprintf(stderr, "seed %u\n", (unsigned)seed);
    snprintf(text, sizeof text, "%u", (unsigned)seed);
    if (!cli_find(p, "seed", &g)) return false;
    g.value = text;
    return recipe_set(recipe, &g);
}

/* JSON, as which a picture holds its options, has no other strings; names of files may be. */
static bool holds_options(const request *r, const cli_settings *recipe)
{
    for (int i = 0; !r->no_recipe && i < recipe->n; i++) {
        if (cli_is_text(recipe->list[i].value)) continue;
        fprintf(stderr, "warning: --%s isn't UTF-8, so the picture doesn't hold its options\n",
                recipe->list[i].row->name);
        return false;
    }
    return !r->no_recipe;
}

static int draw(const cli_parser *p, request *r, cli_settings *recipe)
{
    if (r->dry_run) return generate_run(r);
    if (!generate_can_write(r) || !choose_seed(p, r, recipe)) return CLI_FAILED;
    const bool holds = holds_options(r, recipe);
    char *text = holds ? recipe_text(recipe) : NULL;
    if (holds && !text) return cli_error("generate", "out of memory");
    r->recipe = text;
    const int status = generate_run(r);
    free(text);
    return status;
}

static int generate(cli_parser *p, request *r)
{
    const cli_settings line = p->settings;
    const cli_setting *from = cli_find_setting(p, "from");
    cli_settings recipe = {0}, all = {0};
    int status = CLI_FAILED;
    if ((!from || recipe_read(p, from->value, &recipe)) && merge(&line, &recipe) &&
        join(&line, &recipe, &all)) {
        p->settings = all; /* as if it had been on the line */
        status = generate_read(p, r);
        if (status == CLI_GO) status = draw(p, r, &recipe);
        p->settings = line;
    }
    recipe_free(&recipe);
    recipe_free(&all);
    return status;
}

int cmd_generate(int argc, char **argv)
{
    request r = {0};
    cli_parser p = {.command = "generate",
                    .synopsis = "generate -m MODEL -p PROMPT [options] -o OUT.png",
                    .parts = r.parts,
                    .argc = argc,
                    .argv = argv};
    generate_parts(&r);
    int status = cli_parse(&p);
    if (status == CLI_GO) generate_order(&p.settings);
    if (status == CLI_GO) status = generate(&p, &r);
    cli_parser_free(&p);
    return status;
}
