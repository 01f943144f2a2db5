/* SPDX-License-Identifier: Apache-2.0 */
/* cli_print.c - numbers and texts as commands print them. */
#include "cli/cli.h"

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
