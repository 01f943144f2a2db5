/* SPDX-License-Identifier: Apache-2.0 */
/* cli_convert.c - controlnet convert: between the published layouts and element types, and from
 * base to base. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>

typedef struct request {
    cn_convert_options o;
    const char *to;
    const char *const *transfer; /* FROM, TO; or NULL */
    const char **paths;          /* IN, OUT */
} request;

#define FIELD(member) CN_FIELD(request, member)

static const cn_option rows[] = {
    {.help = "Options"},
    {"to", 0, "a folder, or one .safetensors", FIELD(to),
     .words = (const char *const[]){"diffusers", "single-file", NULL},
     .unset = "single-file when OUT ends in .safetensors, else diffusers"},
    {"transfer", 0, "IN, a ControlNet trained beside base model FROM, for TO", FIELD(transfer),
     .arg = "FROM TO", .values = 2},
    {0},
};

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int run(request *r)
{
    r->o.to_single_file =
        r->to ? strcmp(r->to, "single-file") == 0 : ends_in(r->paths[1], ".safetensors");
    if (strcmp(r->paths[1], "-") == 0) r->o.to_single_file = true;
    if (r->o.to_single_file) r->paths[1] = cli_output_path(r->paths[1]);
    if (r->transfer) {
        r->o.from_base = r->transfer[0];
        r->o.to_base = r->transfer[1];
    }
    if (r->o.to_single_file && !cli_can_write("convert", r->paths[1])) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("convert", 0);
    if (!ctx) return CLI_FAILED;
    const cn_status s = cn_convert(ctx, r->paths[0], r->paths[1], &r->o);
    const int status = s == CN_OK ? CLI_DONE : cli_failed(ctx, "convert");
    cli_context_destroy(ctx);
    return status;
}

int cmd_convert(int argc, char **argv)
{
    request r = {0};
    const cli_part parts[] = {{rows, &r}, {cn_convert_option_rows, &r.o}, {0}};
    cli_parser p = {.command = "convert",
                    .synopsis =
                        "convert IN OUT [--to diffusers|single-file] [--dtype "
                        "f32|f16|bf16]\n       controlnet convert --transfer FROM TO IN OUT",
                    .parts = parts,
                    .min_words = 2,
                    .max_words = 2,
                    .words_wanted = "IN and OUT are expected",
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    r.paths = p.words;
    if (status == CLI_GO) status = run(&r);
    cli_parser_free(&p);
    return status;
}
