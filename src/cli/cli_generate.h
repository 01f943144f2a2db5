/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate.h - what the files of `controlnet generate` share.
 *
 *   cli_generate.c           the command: options of the picture named by --from, then the others
 *   cli_generate_options.c   the tables of options, and options to a request
 *   cli_generate_run.c       pictures in, the drawing, files out
 *   cli_recipe.c             options written into a picture and read from it
 */
#ifndef CN_CLI_GENERATE_H
#define CN_CLI_GENERATE_H

#include "cli/cli.h"

enum { MAX_CONTROLS = 8, MAX_LORAS = 64, MAX_WEIGHTS = 64, GENERATE_PARTS = 6 };

typedef struct control {
    cn_control_options o;         /* without its pictures */
    const char *net, *ip_adapter; /* both NULL: a further condition or image of the one before */
    const char *image, *mask, *model, *factors;
    const char *preprocessor_weights[2]; /* NULL at the end */
    float weights[MAX_WEIGHTS];
} control;

typedef struct request {
    cn_pipeline_options pipeline;
    cn_generate_options generate;
    control controls[MAX_CONTROLS];
    int n_controls;
    const char *const *lora_files, *const *embeddings; /* as given, NULL at the end; or NULL */
    cn_lora_option loras[MAX_LORAS];
    const char *init, *mask, *reference;
    const char *from, *output, *preview, *preview_path;
    const char *recipe; /* goes into the pictures; NULL: none */
    int64_t seed;       /* -1: a random one */
    int clip_skip;      /* 1: to the text encoder's last layer */
    int threads;
    int64_t max_pixels;
    bool json, verbose, grid, dry_run, no_recipe;
    cli_part parts[GENERATE_PARTS + 1]; /* its options' tables; a ControlNet's have no target */
} request;

void generate_parts(request *r);
/* All options of p into the request, checked. CLI_GO, or the exit status after a message. Writes
 * into values of --lora. */
int generate_read(cli_parser *p, request *r);
/* Brings every --ip-adapter before the options of its image prompt. */
void generate_order(cli_settings *s);

/* Whether an option says what is drawn, and not where files go or how to work. */
bool generate_makes_picture(const cli_setting *g);
/* Whether an option begins a list, of ControlNets or of values; two are of the same list. */
bool generate_begins_list(const cli_setting *g);
bool generate_same_list(const cli_setting *a, const cli_setting *b);

/* False after a message: a file of the request's can't be written. */
bool generate_can_write(const request *r);
/* Draws the checked request and writes its files; returns the program's exit status. */
int generate_run(request *r);

/* --- recipes ---------------------------------------------------------------------------------- */

/* A recipe is a list of options that owns their values, "" for a switch. */
void recipe_free(cli_settings *r);
/* False after a message, as the others below: out of memory. */
bool recipe_add(cli_settings *r, const cli_setting *g);
/* The option's value is replaced, or the option added: of a list's last entry. */
bool recipe_set(cli_settings *r, const cli_setting *g);
/* Options of the same list as `of` go. */
void recipe_drop(cli_settings *r, const cli_setting *of);
/* Reads the options that a picture holds. */
bool recipe_read(const cli_parser *p, const char *picture, cli_settings *out);
/* What goes into a picture; NULL when a value is no UTF-8 (or memory is out). free it. */
char *recipe_text(const cli_settings *r);
/* The text's key in a PNG file. */
extern const char recipe_key[];

#endif
