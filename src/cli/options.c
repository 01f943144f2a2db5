/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - a command's table of options, read through getopt_long.
 *
 * getopt_long takes any unambiguous beginning of a name; scripts would break when an option is
 * added, so names are checked in full first. That pass also turns '_' into '-'.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 38 };

int cli_usage_error(const cli_parser *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "controlnet %s: ", p->command);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, " (controlnet %s --help lists the options)\n", p->command);
    va_end(args);
    return CLI_USAGE;
}

static void print_help(const cli_parser *p)
{
    printf("usage: controlnet %s\n", p->synopsis);
    for (int i = 0; i < p->n_options; i++) {
        const cli_option *o = &p->options[i];
        if (!o->help) continue;
        if (!o->name) {
            printf("\n%s\n", o->help);
            continue;
        }
        int n = o->letter ? printf("  -%c, ", o->letter) : printf("      ");
        n += printf("--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        if (n > HELP_COLUMN - 2) {
            putchar('\n');
            n = 0;
        }
        for (const char *line = o->help; line;) {
            const char *end = strchr(line, '\n');
            printf("%*s%.*s\n", HELP_COLUMN - n, "", end ? (int)(end - line) : (int)strlen(line),
                   line);
            line = end ? end + 1 : NULL;
            n = 0;
        }
    }
    if (p->about) printf("\n%s\n", p->about);
}

static const cli_option *find_long(const cli_parser *p, const char *name, size_t n)
{
    for (int i = 0; i < p->n_options; i++)
        if (p->options[i].name && strlen(p->options[i].name) == n &&
            memcmp(p->options[i].name, name, n) == 0)
            return &p->options[i];
    return NULL;
}

static const cli_option *find_letter(const cli_parser *p, char letter)
{
    for (int i = 0; i < p->n_options; i++)
        if (p->options[i].name && p->options[i].letter == letter) return &p->options[i];
    return NULL;
}

static bool is_help(const cli_parser *p, const char *word)
{
    return strcmp(word, "--help") == 0 || (strcmp(word, "-h") == 0 && !find_letter(p, 'h'));
}

/* Checks one word that begins with '-'. Its argument is the next word when *takes_next. */
static int check_word(const cli_parser *p, char *word, bool *takes_next)
{
    *takes_next = false;
    if (is_help(p, word)) {
        print_help(p);
        return CLI_HELP;
    }
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        for (size_t k = 0; k < n; k++)
            if (word[2 + k] == '_') word[2 + k] = '-';
        const cli_option *o = find_long(p, word + 2, n);
        if (!o) {
            cli_usage_error(p, "unknown option %.*s", (int)n + 2, word);
            return CLI_WRONG;
        }
        *takes_next = o->arg && !word[2 + n];
        return 0;
    }
    for (const char *c = word + 1; *c; c++) {
        const cli_option *o = find_letter(p, *c);
        if (!o) {
            cli_usage_error(p, "unknown option -%c", *c);
            return CLI_WRONG;
        }
        if (!o->arg) continue;
        *takes_next = !c[1];
        break;
    }
    return 0;
}

static int check_names(const cli_parser *p)
{
    for (int i = 1; i < p->argc; i++) {
        char *word = p->argv[i];
        if (word[0] != '-' || !word[1]) continue;
        if (strcmp(word, "--") == 0) break;
        bool takes_next = false;
        int end = check_word(p, word, &takes_next);
        if (end) return end;
        if (takes_next && ++i >= p->argc) {
            cli_usage_error(p, "%s needs a value", word);
            return CLI_WRONG;
        }
    }
    return 0;
}

/* getopt_long's tables of these options: longs [n + 1], shorts [2 n + 1]. */
static void fill_tables(const cli_parser *p, struct option *longs, char *shorts)
{
    for (int i = 0; i < p->n_options; i++) {
        const cli_option *o = &p->options[i];
        if (!o->name) continue;
        *longs++ =
            (struct option){o->name, o->arg ? required_argument : no_argument, NULL, 256 + i};
        if (!o->letter) continue;
        *shorts++ = o->letter;
        if (o->arg) *shorts++ = ':';
    }
}

/* getopt_long with the parser's options. */
static int next_word(cli_parser *p)
{
    const size_t n = (size_t)p->n_options;
    struct option *longs = calloc(n + 1, sizeof *longs);
    char *shorts = calloc(2 * n + 1, 1);
    int got = '?';
    if (longs && shorts) {
        fill_tables(p, longs, shorts);
        got = getopt_long(p->argc, p->argv, shorts, longs, NULL);
    }
    free(longs);
    free(shorts);
    return got;
}

int cli_next(cli_parser *p)
{
    if (!p->started) {
        int end = check_names(p);
        if (end) return end;
        p->started = true;
        optind = 0; /* glibc: begin anew */
        opterr = 0;
    }
    int got = next_word(p);
    if (got == -1) return CLI_END;
    p->value = optarg;
    if (got >= 256) return got - 256;
    for (int i = 0; i < p->n_options; i++)
        if (p->options[i].name && p->options[i].letter == got) return i;
    cli_usage_error(p, "%s: this option takes no value", p->argv[optind - 1]);
    return CLI_WRONG;
}

int cli_exit_status(int end)
{
    return end == CLI_HELP ? CLI_DONE : CLI_USAGE;
}

int cli_positional(const cli_parser *p, char ***list)
{
    *list = p->argv + optind;
    return p->argc - optind;
}

bool cli_int(const cli_parser *p, int i, int64_t min, int64_t max, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(p->value, &end, 10);
    if (end != p->value && !*end && !errno && v >= min && v <= max) {
        *out = v;
        return true;
    }
    cli_usage_error(p, "--%s %s: must be a whole number from %lld to %lld", p->options[i].name,
                    p->value, (long long)min, (long long)max);
    return false;
}

bool cli_number(const cli_parser *p, int i, double min, double max, double *out)
{
    char *end;
    double v = strtod(p->value, &end);
    if (end != p->value && !*end && v >= min && v <= max) {
        *out = v;
        return true;
    }
    cli_usage_error(p, "--%s %s: must be a number from %g to %g", p->options[i].name, p->value, min,
                    max);
    return false;
}

bool cli_uint64(const cli_parser *p, int i, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(p->value, &end, 10);
    if (p->value[0] >= '0' && p->value[0] <= '9' && !*end && !errno) {
        *out = v;
        return true;
    }
    cli_usage_error(p, "--%s %s: must be a whole number from 0 to 18446744073709551615",
                    p->options[i].name, p->value);
    return false;
}

bool cli_one_of(const cli_parser *p, int i, const char *const *names)
{
    char list[128] = "";
    for (int k = 0; names[k]; k++) {
        if (strcmp(names[k], p->value) == 0) return true;
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", k ? ", " : "", names[k]);
    }
    cli_usage_error(p, "--%s %s: there is %s", p->options[i].name, p->value, list);
    return false;
}

bool cli_add_word(const cli_parser *p, const char **list, int most, int *n)
{
    if (*n == most) {
        cli_usage_error(p, "more than %d of one option", most);
        return false;
    }
    list[(*n)++] = p->value;
    return true;
}

bool cli_size(const cli_parser *p, int i, size_t *out)
{
    char *end;
    errno = 0;
    const double v = strtod(p->value, &end);
    double unit = 1;
    if (*end && strchr("kKmMgGtT", *end)) {
        unit = *end == 'k' || *end == 'K'   ? 1024.0
               : *end == 'm' || *end == 'M' ? 1048576.0
               : *end == 'g' || *end == 'G' ? 1073741824.0
                                            : 1099511627776.0;
        end++;
    }
    if (end != p->value && !*end && v > 0 && v * unit < 9e18) {
        *out = (size_t)(v * unit);
        return true;
    }
    cli_usage_error(p, "--%s %s: a size such as 8G or 500M is expected", p->options[i].name,
                    p->value);
    return false;
}

double cli_gib(size_t bytes)
{
    return (double)bytes / 1073741824.0;
}

void cli_print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}
