/* SPDX-License-Identifier: Apache-2.0 */
/* cli_inspect.c - controlnet inspect: layout, networks, element types and sizes of a checkpoint. */
#include "cli/cli.h"
#include "cli/commands.h"

static const cli_option options[] = {
    {NULL, 0, NULL, "Options"},
    {"json", 0, NULL, "one line of JSON"},
};

int cmd_inspect(int argc, char **argv)
{
    cli_parser p = {.command = "inspect",
                    .synopsis = "inspect FILE|DIR...",
                    .options = options,
                    .n_options = sizeof options / sizeof options[0],
                    .argc = argc,
                    .argv = argv};
    bool json = false;
    int id;
    char **paths;
    while ((id = cli_next(&p)) >= 0) json = true;
    if (id != CLI_END) return cli_exit_status(id);
    int n = cli_positional(&p, &paths);
    if (n < 1) return cli_usage_error(&p, "%s", "a file or folder is missing");
    cn_ctx *ctx = cli_context_create("inspect", 0);
    if (!ctx) return CLI_FAILED;
    int status = CLI_DONE;
    for (int i = 0; i < n; i++) {
        char *text = NULL;
        if (cn_inspect(ctx, paths[i], json, &text) == CN_OK)
            fputs(text, stdout);
        else
            status = cli_failed(ctx, "inspect");
        cn_free(text);
    }
    cli_context_destroy(ctx);
    return status;
}
