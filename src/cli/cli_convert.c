/* cli_convert.c - controlnet convert: between the published layouts and element types. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>

enum { OPT_HEAD, OPT_TO, OPT_DTYPE };

static const cli_option options[] = {
    [OPT_HEAD] = {NULL, 0, NULL, "Options"},
    [OPT_TO] = {"to", 0, "LAYOUT",
                "diffusers (a folder) or single-file (.safetensors); without it\n"
                "single-file when OUT ends in .safetensors, else diffusers"},
    [OPT_DTYPE] = {"dtype", 0, "TYPE", "f32, f16 (default) or bf16"},
};

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

int cmd_convert(int argc, char **argv)
{
    static const char *const layouts[] = {"diffusers", "single-file", NULL};
    static const char *const types[] = {"f32", "f16", "bf16", NULL};
    cli_parser p = {
        .command = "convert",
        .synopsis = "convert IN OUT [--to diffusers|single-file] [--dtype f32|f16|bf16]",
        .options = options,
        .n_options = sizeof options / sizeof options[0],
        .argc = argc,
        .argv = argv};
    const char *to = NULL, *dtype = "f16";
    int id;
    char **paths;
    while ((id = cli_next(&p)) >= 0) {
        if (!cli_one_of(&p, id, id == OPT_TO ? layouts : types)) return CLI_USAGE;
        if (id == OPT_TO)
            to = p.value;
        else
            dtype = p.value;
    }
    if (id != CLI_END) return cli_exit_status(id);
    int n = cli_positional(&p, &paths);
    if (n != 2) return cli_usage_error(&p, "%s", "IN and OUT are expected");
    bool single = to ? strcmp(to, "single-file") == 0 : ends_in(paths[1], ".safetensors");
    if (single && !cli_can_write("convert", paths[1])) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("convert", 0);
    if (!ctx) return CLI_FAILED;
    int status = CLI_DONE;
    if (cn_convert(ctx, paths[0], paths[1], single, dtype) != CN_OK)
        status = cli_failed(ctx, "convert");
    cli_context_destroy(ctx);
    return status;
}
