/* SPDX-License-Identifier: Apache-2.0 */
/* restart.h - the program's own settings of OpenMP, for every main of this project that measures or
 * works. */
#ifndef CLI_RESTART_H
#define CLI_RESTART_H

/* Starts the program anew with short spinning unless the environment already says how threads
 * wait. */
void cli_restart_with_short_spinning(char **argv);

#endif
