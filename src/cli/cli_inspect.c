/* SPDX-License-Identifier: Apache-2.0 */
/* cli_inspect.c - controlnet inspect: layout, networks, element types and sizes of a checkpoint. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <limits.h>

typedef struct request {
    bool json;
} request;

static const cn_option rows[] = {
    {.help = "Options"},
    CLI_JSON(request, "one line of JSON"),
    {0},
};

static int inspect(const cli_parser *p, bool json)
{
    cn_ctx *ctx = cli_context_create("inspect", 0);
    if (!ctx) return CLI_FAILED;
    int status = CLI_DONE;
    for (int i = 0; i < p->n_words; i++) {
        char *text = NULL;
        const cn_status s = cn_inspect(ctx, p->words[i], json, &text);
        if (cli_put_text(ctx, "inspect", s, text, json) != CLI_DONE) status = CLI_FAILED;
        cn_free(text);
    }
    cli_context_destroy(ctx);
    return status;
}

int cmd_inspect(int argc, char **argv)
{
    request r = {0};
    const cli_part parts[] = {{rows, &r}, {0}};
    cli_parser p = {.command = "inspect",
                    .synopsis = "inspect FILE|DIR...",
                    .parts = parts,
                    .min_words = 1,
                    .max_words = INT_MAX,
                    .words_wanted = "a file or folder is missing",
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) status = inspect(&p, r.json);
    cli_parser_free(&p);
    return status;
}
