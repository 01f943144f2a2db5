/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - controlnet COMMAND ...: finds the command and hands the arguments on. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/restart.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"demo", "train a small ControlNet and draw with it, in minutes", cmd_demo},
    {"generate", "draw from a prompt and condition images", cmd_generate},
    {"train", "train a ControlNet on a base model", cmd_train},
    {"annotate", "make condition images (edges, ...) from pictures", cmd_annotate},
    {"dataset", "make and check training pairs", cmd_dataset},
    {"devices", "list the GPUs that --device takes", cmd_devices},
    {"inspect", "say what is in a checkpoint", cmd_inspect},
    {"convert", "turn a checkpoint into another layout or element type", cmd_convert},
    {"serve", "draw over HTTP: a page, and the interfaces of other programs", cmd_serve},
    {"pretrain", "train a small base model from scenes, or measure one", cmd_pretrain},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *f)
{
    fputs("usage: controlnet COMMAND [options]\n\n", f);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs(
        "\ncontrolnet COMMAND --help lists a command's options; controlnet --version the version.\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage.\n",
        f);
}

/* What was printed may still have met a full disk. */
static int close_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "controlnet: cannot write to standard output: %s\n", strerror(errno));
    return status ? status : CLI_FAILED;
}

int main(int argc, char **argv)
{
    cli_restart_with_short_spinning(argv);
    /* Freed pictures and weights go back to the system at once, so that what was planned is what is
     * used. */
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 18);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
#endif
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return close_output(commands[i].run(argc - 1, argv + 1));
    if (strcmp(name, "--version") == 0) {
        printf("controlnet %s\n", CN_VERSION);
        return close_output(CLI_DONE);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return close_output(CLI_DONE);
    }
    if (!*name)
        print_usage(stderr);
    else {
        fputs("controlnet: unknown command \"", stderr);
        cli_put(stderr, name);
        fputs("\" (controlnet --help lists them)\n", stderr);
    }
    return CLI_USAGE;
}
