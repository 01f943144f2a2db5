/* SPDX-License-Identifier: Apache-2.0 */
/* restart.c - how long OpenMP threads spin; see restart.h. */
#include "cli/restart.h"

#include <stdlib.h>
#include <unistd.h>

/* GCC's OpenMP threads spin for milliseconds before they sleep; where other programs want the
 * cores, that makes a network of many short kernels up to fifty times slower. The library reads its
 * settings before main, so the program starts itself once more. */
void cli_restart_with_short_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}
