/* SPDX-License-Identifier: Apache-2.0 */
/* cli_generate.h - what the files of `controlnet generate` share.
 *
 *   cli_generate.c       the options and their values
 *   cli_generate_run.c   pictures in, the drawing, files out
 *   cli_recipe.c         options written into a picture and read from it
 */
#ifndef CN_CLI_GENERATE_H
#define CN_CLI_GENERATE_H

#include "cli/cli.h"

enum { MAX_CONTROLS = 8, MAX_BATCH = 1024, MAX_FILES = 64, MAX_WEIGHTS = 64 };

typedef struct control {
    const char *net, *image, *preprocessor, *mode, *mask;
    const char *preprocessor_weights[2]; /* NULL at the end */
    double strength, start, end;
    float weights[MAX_WEIGHTS];
    int n_weights; /* 0: none given */
} control;

typedef struct request {
    cn_pipeline_options pipeline;
    cn_generate_options generate;
    control controls[MAX_CONTROLS];
    int n_controls;
    cn_lora_option loras[MAX_FILES];
    const char *embeddings[MAX_FILES];
    const char *init, *mask;
    const char *output, *preview_path;
    const char *recipe; /* goes into the pictures; NULL: none */
    int threads;
    bool json, verbose, has_seed, grid, preview, dry_run;
} request;

/* False after a message: a file of the request's can't be written. */
bool generate_can_write(const request *r);
/* Draws the checked request and writes its files; returns the program's exit status. */
int generate_run(request *r);

/* --- recipes ---------------------------------------------------------------------------------- */

/* Options in their order, each with its value ("" for a switch). Owned. */
typedef struct recipe_entry {
    int id; /* index in the command's table */
    char *value;
} recipe_entry;
typedef struct recipe {
    recipe_entry *list;
    int n;
} recipe;

void recipe_free(recipe *r);
/* False after a message, as the others below: out of memory. */
bool recipe_add(recipe *r, int id, const char *value);
/* The entry's value is replaced, or the entry added: searched from the end back to the last `until`
 * (-1: to the first). */
bool recipe_set(recipe *r, int id, const char *value, int until);
/* Entries of ids first..last go. */
void recipe_drop(recipe *r, int first, int last);
/* Reads the options that a picture holds; the ids are those of p's table. */
bool recipe_read(const cli_parser *p, const char *picture, recipe *out);
/* What goes into a picture; NULL when a value is no UTF-8 (or memory is out). free it. */
char *recipe_text(const cli_parser *p, const recipe *r);
/* The text's key in a PNG file. */
extern const char recipe_key[];

#endif
