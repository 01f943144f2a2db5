/* SPDX-License-Identifier: Apache-2.0 */
/* cli_convert.c - controlnet convert: between the published layouts and element types, and from
 * base to base. */
#include "cli/cli.h"
#include "cli/commands.h"

#include <string.h>

enum { OPT_HEAD, OPT_TO, OPT_DTYPE, OPT_OUT_OF_RANGE, OPT_TRANSFER };

static const cli_option options[] = {
    [OPT_HEAD] = {NULL, 0, NULL, "Options"},
    [OPT_TO] = {"to", 0, "LAYOUT",
                "diffusers (a folder) or single-file (.safetensors); without it\n"
                "single-file when OUT ends in .safetensors, else diffusers"},
    [OPT_DTYPE] = {"dtype", 0, "TYPE", "f32, f16 (default) or bf16"},
    [OPT_OUT_OF_RANGE] = {"out-of-range", 0, "WHAT",
                          "tensors with values that TYPE can't hold: keep (default)\n"
                          "writes them as f32 and names them, refuse writes nothing"},
    [OPT_TRANSFER] = {"transfer", 0, "FROM TO",
                      "IN, a ControlNet trained beside base model FROM, for TO"},
};

typedef struct request {
    const char *to, *out_of_range;
    cn_convert_options o;
    const char *paths[2];
} request;

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The word behind --transfer's value, which no parser of options knows to be its second one. */
static const char *word_behind(const cli_parser *p)
{
    for (int i = 1; i + 1 < p->argc; i++)
        if (p->argv[i] == p->value) return p->argv[i + 1];
    return NULL;
}

static bool parse_one(const cli_parser *p, int id, request *r)
{
    static const char *const layouts[] = {"diffusers", "single-file", NULL};
    static const char *const types[] = {"f32", "f16", "bf16", NULL};
    static const char *const ranges[] = {"keep", "refuse", NULL};
    switch (id) {
    case OPT_TO: r->to = p->value; return cli_one_of(p, id, layouts);
    case OPT_DTYPE: r->o.dtype = p->value; return cli_one_of(p, id, types);
    case OPT_OUT_OF_RANGE: r->out_of_range = p->value; return cli_one_of(p, id, ranges);
    default: r->o.from_base = p->value; r->o.to_base = word_behind(p);
    }
    if (r->o.to_base && r->o.to_base[0] != '-') return true;
    cli_usage_error(p, "%s", "--transfer FROM TO: two base models are expected");
    return false;
}

/* IN and OUT among the words that are no options' values. */
static bool take_paths(const cli_parser *p, request *r)
{
    char **words;
    int n = 0;
    const int count = cli_positional(p, &words);
    for (int i = 0; i < count; i++) {
        if (words[i] == r->o.to_base) continue;
        if (n < 2) r->paths[n] = words[i];
        n++;
    }
    if (n != 2) cli_usage_error(p, "%s", "IN and OUT are expected");
    return n == 2;
}

int cmd_convert(int argc, char **argv)
{
    cli_parser p = {.command = "convert",
                    .synopsis =
                        "convert IN OUT [--to diffusers|single-file] [--dtype "
                        "f32|f16|bf16]\n       controlnet convert --transfer FROM TO IN OUT",
                    .options = options,
                    .n_options = sizeof options / sizeof options[0],
                    .argc = argc,
                    .argv = argv};
    request r = {.out_of_range = "keep", .o.dtype = "f16"};
    int id;
    while ((id = cli_next(&p)) >= 0)
        if (!parse_one(&p, id, &r)) return CLI_USAGE;
    if (id != CLI_END) return cli_exit_status(id);
    if (!take_paths(&p, &r)) return CLI_USAGE;
    r.o.to_single_file =
        r.to ? strcmp(r.to, "single-file") == 0 : ends_in(r.paths[1], ".safetensors");
    r.o.refuse_out_of_range = strcmp(r.out_of_range, "refuse") == 0;
    if (r.o.to_single_file && !cli_can_write("convert", r.paths[1])) return CLI_FAILED;
    cn_ctx *ctx = cli_context_create("convert", 0);
    if (!ctx) return CLI_FAILED;
    int status = CLI_DONE;
    if (cn_convert(ctx, r.paths[0], r.paths[1], &r.o) != CN_OK) status = cli_failed(ctx, "convert");
    cli_context_destroy(ctx);
    return status;
}
