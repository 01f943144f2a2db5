/* SPDX-License-Identifier: Apache-2.0 */
/* cli_print.c - numbers and texts as commands print them. */
#include "cli/cli.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

/* Length and code point of the UTF-8 character at p (0-terminated); 0 for what is none. */
static int decode(const unsigned char *p, unsigned *code)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    const int n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc2 ? 2 : 0;
    *code = n == 1 ? *p : *p & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    const bool good = n && *code >= least[n] && *code <= 0x10ffff &&
                      (*code < 0xd800 || *code > 0xdfff) && *p < 0xf5;
    return good ? n : 0;
}

bool cli_is_text(const char *text)
{
    unsigned code = 0;
    const unsigned char *p = (const unsigned char *)text;
    for (int n; *p; p += n)
        if (!(n = decode(p, &code))) return false;
    return true;
}

/* What a terminal acts upon instead of showing it: controls (C0, C1), line and paragraph ends, and
 * what turns the direction of text around. */
static bool acts(unsigned code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200e && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0x061c || code == 0xfeff;
}

void cli_put(FILE *f, const char *text)
{
    unsigned code = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const int n = decode(p, &code);
        if (n && !acts(code))
            fwrite(p, 1, (size_t)n, f);
        else
            for (int i = 0; i < (n ? n : 1); i++) fprintf(f, "\\x%02x", p[i]);
        p += n ? n : 1;
    }
}

void cli_put_lines(FILE *f, const char *text)
{
    for (const char *end; *text; text = end) {
        char line[4096];
        const size_t n = strcspn(text, "\n"), part = n < sizeof line ? n : sizeof line - 1;
        memcpy(line, text, part);
        line[part] = 0;
        cli_put(f, line);
        end = text + part;
        if (part == n && *end == '\n') fputc(*end++, f);
    }
}

void cli_vsay(FILE *f, const char *fmt, va_list args)
{
    char text[8192]; /* a message has 2,048 bytes at most; a path as many as fit twice */
    vsnprintf(text, sizeof text, fmt, args);
    cli_put(f, text);
}
