/* SPDX-License-Identifier: Apache-2.0 */
/* cli_processes.c - whether mpirun, or srun with PMIx, started this program several times. */
#include "cli/cli.h"

#include <stdlib.h>

int cli_processes(int *rank)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE"), *mine = getenv("OMPI_COMM_WORLD_RANK");
    if (!mine) mine = getenv("PMIX_RANK");
    if (!size && getenv("PMIX_RANK")) size = getenv("SLURM_NTASKS");
    const long n = size ? strtol(size, NULL, 10) : 1;
    *rank = mine ? (int)strtol(mine, NULL, 10) : 0;
    return n > 1 ? (int)n : 1;
}
