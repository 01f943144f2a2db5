/* SPDX-License-Identifier: Apache-2.0 */
/* cli_annotate.h - what the files of the annotate command share. */
#ifndef CN_CLI_ANNOTATE_H
#define CN_CLI_ANNOTATE_H

#include <stdbool.h>

/* Every kind with its options, other names and weight files on standard output: text, or a JSON
 * line each. */
void cli_list_kinds(bool json);
/* A palette's colours; false for an unknown name, after a message. */
bool cli_list_palette(const char *name, bool json);
/* Behind a kind's help: what it takes, its weight files, its other names. */
void cli_describe_kind(const char *kind);

#endif
