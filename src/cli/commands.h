/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the commands, one file each; the table is in main.c. */
#ifndef CN_CLI_COMMANDS_H
#define CN_CLI_COMMANDS_H

#include <stdbool.h>

/* argv[0] is the command's name. They return the program's exit status. */
int cmd_annotate(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_dataset(int argc, char **argv);
/* of cmd_dataset; argv[0] is "prepare" */
int cmd_dataset_prepare(int argc, char **argv);
int cmd_dataset_stats(int argc, char **argv);
int cmd_dataset_show(int argc, char **argv);
/* of cmd_dataset; argv[0] is one of those of which the second says so */
int cmd_dataset_copy(int argc, char **argv);
bool cmd_dataset_copies(const char *name);
int cmd_demo(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_pretrain(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_train(int argc, char **argv);

#endif
