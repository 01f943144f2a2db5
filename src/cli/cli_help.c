/* SPDX-License-Identifier: Apache-2.0 */
/* cli_help.c - a command's help from its tables of options.
 *
 * tools/describe.sh reads what is printed here: an option begins a line behind at most six blanks,
 * two blanks part it from its text, whose further lines begin at HELP_COLUMN.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

enum { HELP_COLUMN = 38, WIDTH = 100, TEXT_BYTES = 1024 };

/* A text that is cut where its room ends. */
typedef struct text {
    char data[TEXT_BYTES];
    size_t n;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(t->data + t->n, sizeof t->data - t->n, fmt, args);
    va_end(args);
    if (n > 0) t->n += (size_t)n;
    if (t->n >= sizeof t->data) t->n = sizeof t->data - 1;
}

/* --- one option ------------------------------------------------------------------------------- */

static bool is_ranged(const cn_option *row)
{
    return row->type == CN_FIELD_INT || row->type == CN_FIELD_INT64 ||
           row->type == CN_FIELD_INT64S || row->type == CN_FIELD_NUMBER;
}

/* A limit that somebody may come near to. */
static bool is_told(const cn_option *row)
{
    return is_ranged(row) && row->max <= 1e5;
}

static void join(const char *const *words, const char *between, const char *last, text *out)
{
    for (int i = 0; words[i]; i++)
        add(out, "%s%s", !i ? "" : words[i + 1] ? between : last, words[i]);
}

/* The names that a function counts, "a, b or c". */
static void join_names(const char *(*name_at)(int i), text *out)
{
    for (int i = 0; name_at(i); i++)
        add(out, "%s%s", !i ? "" : name_at(i + 1) ? ", " : " or ", name_at(i));
}

/* Whether an option's words stand in its own column, "--unlock none|decoder|all". */
static bool has_short_words(const cn_option *row)
{
    text joined = {0};
    if (row->words) join(row->words, "|", "|", &joined);
    return joined.n && 10 + strlen(row->name) + 1 + joined.n <= HELP_COLUMN;
}

/* "N", or its words where these are short. */
static void value_name(const cn_option *row, text *out)
{
    static const char *const by_type[] = {
        [CN_FIELD_INT] = "N",     [CN_FIELD_INT64] = "N",    [CN_FIELD_UINT64] = "N",
        [CN_FIELD_NUMBER] = "X",  [CN_FIELD_BYTES] = "SIZE", [CN_FIELD_TEXT] = "TEXT",
        [CN_FIELD_LIST] = "TEXT",
    };
    *out = (text){0};
    if (row->type == CN_FIELD_ON || row->type == CN_FIELD_OFF) return;
    if (has_short_words(row))
        join(row->words, "|", "|", out);
    else
        add(out, "%s", row->arg ? row->arg : row->words ? "NAME" : by_type[row->type]);
}

/* Which words there are, what it is for, (the default; the range). */
static void describe(const cn_option *row, text *out)
{
    const bool is_value = row->type != CN_FIELD_ON && row->type != CN_FIELD_OFF;
    const char *otherwise = row->unset ? row->unset : is_value ? row->preset : NULL;
    *out = (text){0};
    if (otherwise && !*otherwise) otherwise = NULL;
    if (row->words && !has_short_words(row)) join(row->words, ", ", " or ", out);
    if (row->name_at) join_names(row->name_at, out);
    if (row->help) add(out, "%s%s", out->n ? ": " : "", row->help);
    if (!otherwise && !is_told(row)) return;
    add(out, "%s(%s", out->n ? " " : "", otherwise ? otherwise : "");
    if (is_told(row)) add(out, "%s%.15g to %.15g", otherwise ? "; " : "", row->min, row->max);
    add(out, ")");
}

/* The text's words in lines up to WIDTH; the first begins behind `column` printed characters. */
static void print_wrapped(const char *words, int column)
{
    int at = HELP_COLUMN;
    printf("%*s", HELP_COLUMN - column, "");
    while (*words) {
        const int n = (int)strcspn(words, " ");
        if (at > HELP_COLUMN && at + 1 + n > WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        at += printf("%s%.*s", at > HELP_COLUMN ? " " : "", n, words);
        words += n + (words[n] == ' ');
    }
    putchar('\n');
}

static void print_option(const cn_option *row)
{
    text value, words;
    value_name(row, &value);
    describe(row, &words);
    int n = row->letter ? printf("  -%c, ", row->letter) : printf("      ");
    n += printf("--%s%s%s", row->name, value.n ? " " : "", value.data);
    if (n > HELP_COLUMN - 2 && words.n) {
        putchar('\n');
        n = 0;
    }
    if (words.n)
        print_wrapped(words.data, n);
    else
        putchar('\n');
}

/* --- all of them ------------------------------------------------------------------------------ */

/* A walk over the rows of all parts, with the heading that each stands under. */
typedef struct walk {
    const cli_part *part;
    const cn_option *row;
    const char *heading;
} walk;

static bool next(walk *w)
{
    w->row = w->row ? w->row + 1 : w->part->rows;
    while (w->row && !w->row->name && !w->row->help) w->row = (++w->part)->rows;
    if (w->row && !w->row->name) w->heading = w->row->help;
    return w->row != NULL;
}

/* Whether the walk's row is the first of its kind: the heading's text, or the option's name. */
static bool is_first(const cli_parser *p, const walk *w)
{
    for (walk k = {.part = p->parts}; next(&k) && k.row != w->row;)
        if (w->row->name ? k.row->name && strcmp(k.row->name, w->row->name) == 0
                         : !k.row->name && strcmp(k.row->help, w->row->help) == 0)
            return false;
    return true;
}

/* Headings in the order in which they first stand, each with the options of all parts. */
void cli_print_help(const cli_parser *p)
{
    printf("usage: controlnet %s\n", p->synopsis);
    for (walk h = {.part = p->parts}; next(&h);) {
        if (h.row->name || !is_first(p, &h)) continue;
        printf("\n%s\n", h.heading);
        for (walk k = {.part = p->parts}; next(&k);)
            if (k.row->name && strcmp(k.heading, h.heading) == 0 && is_first(p, &k))
                print_option(k.row);
    }
    if (p->about) printf("\n%s\n", p->about);
}
