/* SPDX-License-Identifier: Apache-2.0 */
/* cli_devices.c - controlnet devices: what --device can be. */
#include "cli/cli.h"
#include "cli/commands.h"

typedef struct request {
    bool json;
} request;

static const cn_option rows[] = {
    {.help = "Options"},
    CLI_JSON(request, "one line of JSON"),
    {0},
};

static int list(bool json)
{
    cn_ctx *ctx = cli_context_create("devices", 0);
    if (!ctx) return CLI_FAILED;
    char *text = NULL;
    const cn_status s = cn_devices(ctx, json, &text);
    const int status = cli_put_text(ctx, "devices", s, text, json);
    cn_free(text);
    cli_context_destroy(ctx);
    return status;
}

int cmd_devices(int argc, char **argv)
{
    request r = {0};
    const cli_part parts[] = {{rows, &r}, {0}};
    cli_parser p = {
        .command = "devices", .synopsis = "devices", .parts = parts, .argc = argc, .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO) status = list(r.json);
    cli_parser_free(&p);
    return status;
}
