/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - a command line by the command's tables of options.
 *
 * Not getopt_long: that takes any unambiguous beginning of a name, so scripts would break when an
 * option is added, and knows no option with several values. All names are checked before the first
 * value is.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int cli_usage_error(const cli_parser *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "controlnet %s: ", p->command);
    cli_vsay(stderr, fmt, args);
    fprintf(stderr, " (controlnet %s --help lists the options)\n", p->command);
    va_end(args);
    return CLI_USAGE;
}

/* --- rows ------------------------------------------------------------------------------------- */

static bool is_end(const cn_option *row)
{
    return !row->name && !row->help;
}

/* Whether a name of n bytes is the row's or one of its other names. */
static bool is_named(const cn_option *row, const char *name, size_t n)
{
    if (!row->name) return false;
    if (strlen(row->name) == n && memcmp(row->name, name, n) == 0) return true;
    for (const char *at = row->also; at && *at;) {
        const size_t m = strcspn(at, " ");
        if (m == n && memcmp(at, name, n) == 0) return true;
        at += m + (at[m] == ' ');
    }
    return false;
}

static bool find_in(const cli_part *part, const char *name, size_t n, cli_setting *out)
{
    for (const cn_option *row = part->rows; row && !is_end(row); row++) {
        if (n ? !is_named(row, name, n) : !row->name || row->letter != *name) continue;
        *out = (cli_setting){.part = part, .row = row};
        return true;
    }
    return false;
}

/* The row of a long name of n bytes, or with n 0 of a letter. */
static bool find(const cli_parser *p, const char *name, size_t n, cli_setting *out)
{
    for (const cli_part *part = p->parts; part->rows; part++)
        if (find_in(part, name, n, out)) return true;
    return find_in(&p->idle, name, n, out) || find_in(&p->refused, name, n, out);
}

static bool is_switch(const cn_option *row)
{
    return row->type == CN_FIELD_ON || row->type == CN_FIELD_OFF;
}

bool cli_find(const cli_parser *p, const char *name, cli_setting *out)
{
    return *name && find(p, name, strlen(name), out);
}

const cli_setting *cli_find_setting(const cli_parser *p, const char *name)
{
    for (int i = p->settings.n - 1; i >= 0; i--)
        if (strcmp(p->settings.list[i].row->name, name) == 0) return &p->settings.list[i];
    return NULL;
}

/* --- words ------------------------------------------------------------------------------------ */

static bool is_word(const char *text)
{
    return text[0] != '-' || !text[1];
}

/* The values of the option in argv[*i]: `value`, which may stand in the same argument, and for a
 * list those behind it. *i: the last argument that was taken. */
static int parse_values(cli_parser *p, cli_setting g, const char *value, int *i)
{
    const cn_option *row = g.row;
    const char *name = p->argv[*i];
    int n = 0;
    if (!value && *i + 1 < p->argc) value = p->argv[++*i];
    if (!value) return cli_usage_error(p, "%s needs a value", name);
    for (;; n++) {
        g.value = value;
        p->settings.list[p->settings.n++] = g;
        const bool more =
            row->type == CN_FIELD_LIST && (row->values ? n + 1 < row->values : p->max_words == 0);
        if (!more || *i + 1 >= p->argc || !is_word(p->argv[*i + 1])) break;
        value = p->argv[++*i];
    }
    if (row->type == CN_FIELD_LIST && n + 1 < row->values)
        return cli_usage_error(p, "--%s needs %d values: %s", row->name, row->values, row->arg);
    return CLI_GO;
}

static bool is_help(const cli_parser *p, const char *word)
{
    cli_setting g;
    return strcmp(word, "--help") == 0 || (strcmp(word, "-h") == 0 && !find(p, "h", 0, &g));
}

/* --name, --name=value; '_' is '-'. */
static int parse_long(cli_parser *p, int *i)
{
    char *word = p->argv[*i];
    const size_t n = strcspn(word + 2, "=");
    cli_setting g;
    for (size_t k = 0; k < n; k++)
        if (word[2 + k] == '_') word[2 + k] = '-';
    if (!find(p, word + 2, n, &g))
        return cli_usage_error(p, "unknown option %.*s", (int)n + 2, word);
    const char *value = word[2 + n] ? word + 2 + n + 1 : NULL;
    if (!is_switch(g.row)) return parse_values(p, g, value, i);
    if (value) return cli_usage_error(p, "%s: this option takes no value", word);
    p->settings.list[p->settings.n++] = g;
    return CLI_GO;
}

/* -x, -xyz for three switches, -xVALUE. */
static int parse_letters(cli_parser *p, int *i)
{
    for (const char *c = p->argv[*i] + 1; *c; c++) {
        cli_setting g;
        if (!find(p, c, 0, &g)) return cli_usage_error(p, "unknown option -%c", *c);
        if (!is_switch(g.row)) return parse_values(p, g, c[1] ? c + 1 : NULL, i);
        p->settings.list[p->settings.n++] = g;
    }
    return CLI_GO;
}

int cli_parse(cli_parser *p)
{
    size_t room = 1;
    for (int i = 0; i < p->argc; i++) room += strlen(p->argv[i]) + 1; /* letters are options too */
    p->settings.list = malloc(room * sizeof *p->settings.list);
    p->words = malloc((size_t)p->argc * sizeof *p->words + 1);
    p->ctx = cn_ctx_create(1);
    if (!p->settings.list || !p->words || !p->ctx) return cli_error(p->command, "out of memory");
    bool options = true;
    for (int i = 1; i < p->argc; i++) {
        char *word = p->argv[i];
        int status = CLI_GO;
        if (!options || is_word(word)) {
            p->words[p->n_words++] = word;
        } else if (is_help(p, word)) {
            cli_print_help(p);
            return CLI_DONE;
        } else if (strcmp(word, "--") == 0) {
            options = false;
        } else {
            status = word[1] == '-' ? parse_long(p, &i) : parse_letters(p, &i);
        }
        if (status != CLI_GO) return status;
    }
    return CLI_GO;
}

void cli_parser_free(cli_parser *p)
{
    cn_ctx_destroy(p->ctx);
    free(p->settings.list);
    free(p->words);
    free(p->lists);
}

/* --- options and values of other programs ----------------------------------------------------- */

/* Puts what is done here in the place of other programs' values. */
static void replace_values(cli_parser *p)
{
    for (int i = 0; i < p->settings.n; i++) {
        cli_setting *g = &p->settings.list[i];
        for (const cli_idle_value *v = p->idle_values; v && v->name && g->value; v++) {
            if (strcmp(v->name, g->row->name) != 0 || strcmp(v->value, g->value) != 0) continue;
            g->idle = g->value;
            g->value = v->instead;
            break;
        }
    }
}

static int refuse(const cli_parser *p)
{
    for (int i = 0; i < p->settings.n; i++) {
        const cli_setting *g = &p->settings.list[i];
        if (g->part == &p->refused)
            return cli_usage_error(p, "--%s: %s", g->row->name, g->row->help);
    }
    return CLI_GO;
}

/* Whether entry i is idle and none before it is of the same option. */
static bool begins_idle(const cli_parser *p, int i)
{
    const cli_setting *g = &p->settings.list[i];
    if (g->part != &p->idle && !g->idle) return false;
    for (int k = 0; k < i; k++)
        if (p->settings.list[k].row == g->row) return false;
    return true;
}

void cli_print_idle(const cli_parser *p)
{
    const char *before = "note: without effect here: ";
    for (int i = 0; i < p->settings.n; i++) {
        const cli_setting *g = &p->settings.list[i];
        if (!begins_idle(p, i)) continue;
        fprintf(stderr, "%s--%s%s%s", before, g->row->name, g->idle ? " " : "",
                g->idle ? g->idle : "");
        before = ", ";
    }
    if (before[0] == ',') fputc('\n', stderr);
}

/* --- values ----------------------------------------------------------------------------------- */

void cli_preset(const cli_parser *p)
{
    for (const cli_part *part = p->parts; part->rows; part++)
        if (part->target) cn_options_preset(part->rows, part->target);
}

bool cli_set(const cli_parser *p, const cli_setting *g)
{
    if (g->row->type == CN_FIELD_LIST || g->part == &p->idle) return true;
    if (cn_option_set(p->ctx, g->row, g->value, g->part->target) == CN_OK) return true;
    cli_usage_error(p, "%s", cn_error(p->ctx));
    return false;
}

/* Whether entry i is the first of its list. */
static bool begins_list(const cli_settings *all, int i)
{
    if (all->list[i].row->type != CN_FIELD_LIST) return false;
    for (int k = 0; k < i; k++)
        if (all->list[k].row == all->list[i].row) return false;
    return true;
}

bool cli_set_lists(cli_parser *p)
{
    const cli_settings *all = &p->settings;
    const char **end = p->lists = malloc((2 * (size_t)all->n + 1) * sizeof *p->lists);
    if (!end) return cli_error(p->command, "out of memory"), false;
    for (int i = 0; i < all->n; i++) {
        const cli_setting *first = &all->list[i];
        if (!begins_list(all, i) || first->part == &p->idle) continue;
        *(const char *const **)((char *)first->part->target + first->row->offset) = end;
        for (int k = i; k < all->n; k++)
            if (all->list[k].row == first->row) *end++ = all->list[k].value;
        *end++ = NULL;
    }
    return true;
}

int cli_check(const cli_parser *p)
{
    if (p->n_words && !p->max_words) return cli_usage_error(p, "\"%s\" is no option", p->words[0]);
    if (p->n_words < p->min_words || p->n_words > p->max_words)
        return cli_usage_error(p, "%s", p->words_wanted);
    for (const cli_part *part = p->parts; part->rows; part++)
        for (const cn_option *row = part->rows; !is_end(row); row++) {
            if (!row->required || cli_find_setting(p, row->name)) continue;
            char letter[16] = "";
            if (row->letter) snprintf(letter, sizeof letter, " (-%c)", row->letter);
            return cli_usage_error(p, "--%s %s%s is missing", row->name, row->arg, letter);
        }
    return CLI_GO;
}

int cli_read(cli_parser *p)
{
    const int status = cli_parse(p);
    return status == CLI_GO ? cli_fill(p) : status;
}

int cli_fill(cli_parser *p)
{
    const int status = refuse(p);
    if (status != CLI_GO) return status;
    replace_values(p);
    cli_preset(p);
    for (int i = 0; i < p->settings.n; i++)
        if (!cli_set(p, &p->settings.list[i])) return CLI_USAGE;
    return cli_set_lists(p) ? cli_check(p) : CLI_FAILED;
}
