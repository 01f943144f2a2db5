/* SPDX-License-Identifier: Apache-2.0 */
/* cli_serve.c - controlnet serve: options of the server; src/server does the rest.
 *
 * Without libmicrohttpd the program is built without src/server, and the command says so.
 */
#include "cli/cli.h"
#include "cli/commands.h"
#include "server/server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CN_WITHOUT_SERVER
int server_run(const server_options *options)
{
    (void)options;
    return cli_error("serve", "built without libmicrohttpd: install libmicrohttpd-dev and run "
                              "make again");
}
#endif

#define WORDS(...)                 \
    .words = (const char *const[]) \
    {                              \
        __VA_ARGS__, NULL          \
    }

#define FIELD(member) CN_FIELD(server_options, member)

static const cn_option rows[] = {
    {.help = "Model"},
    {"model", 'm',
     "diffusers folder or single file (.safetensors, .ckpt, .pth), or a folder of such models. May "
     "be given several times; the first is drawn with unless a request names another",
     FIELD(models), .arg = "MODEL|DIR", .required = true},
    {.help = "What there is to use"},
    {"control-nets", 0, "a folder of ControlNets, or one. May be given several times",
     FIELD(control_dirs), .arg = "DIR"},
    {"annotators", 0, "a folder with preprocessors' networks, as published", FIELD(annotators_dir),
     .arg = "DIR"},

    {"data", 0,
     "a folder with folders of training pairs: jobs may train, into the first folder of "
     "ControlNets",
     FIELD(data_dir), .arg = "DIR"},

    {.help = "Where it listens"},
    {"host", 0, "an address, localhost, or unix:PATH", FIELD(host), .preset = "127.0.0.1",
     .arg = "ADDRESS"},
    {"port", 0, "0: one that the system chooses", FIELD(port), 0, 65535, .preset = "7860"},
    {"open", 0, "opens a browser on the page", FIELD(open)},
    {"api-key", 0, "asked for as Authorization: Bearer KEY", FIELD(api_key), .arg = "KEY"},
    {"api-key-file", 0, "the key is this file's first line, so that no list of processes shows it",
     FIELD(api_key_file), .arg = "FILE"},
    {"no-auth", 0, "listens beyond this machine without a key", FIELD(no_auth)},
    {"cors", 0, "pages of this origin may use the server", FIELD(cors), .arg = "ORIGIN"},

    {.help = "Limits"},
    {"queue", 0, "jobs that may wait", FIELD(queue), 1, 100000, .preset = "32"},
    {"job-timeout", 0, "a job that takes longer is stopped", FIELD(job_timeout_s), 1, 1e6,
     .arg = "SECONDS", .unset = "none is"},
    {"batch-jobs", 0,
     "waiting jobs that differ in their seeds alone are drawn at once, up to so many: faster, but "
     "their pictures differ in the last bits from those drawn alone",
     FIELD(batch_jobs), 1, 64, .preset = "1"},
    {"max-pixels", 0, "of a picture, drawn or sent", FIELD(max_pixels), 1, 1 << 28,
     .preset = "4194304"},
    {"max-steps", 0, "of a drawing", FIELD(max_steps), 1, 1000, .preset = "150"},
    {"max-batch", 0, "pictures of a job", FIELD(max_batch), 1, 1024, .preset = "16"},
    {"max-prompt", 0, "its bytes", FIELD(max_prompt), 1, 1 << 20, .preset = "8192"},
    {"max-body", 0, "of a request (32M)",
     CN_FIELD_AS(CN_FIELD_BYTES, server_options, max_body_bytes)},
    {"connections", 0, "at a time", FIELD(connections), 1, 4096, .preset = "64"},
    {"header-timeout", 0, "until a request's head is there", FIELD(header_timeout_s), 1, 3600,
     .preset = "20", .arg = "SECONDS"},
    {"body-timeout", 0, "until its body is", FIELD(body_timeout_s), 1, 3600, .preset = "120",
     .arg = "SECONDS"},

    {.help = CN_OPTIONS_ASIDE},
    {"preview", 0,
     "of a drawing on its way, where one is asked for: by the VAE, by TAESD (--preview-model), by "
     "a "
     "linear map of Stable Diffusion's latents",
     FIELD(preview), WORDS("none", "vae", "taesd", "latent"), .preset = "latent"},
    {"save", 0, "gets every picture that is drawn", FIELD(save_dir), .arg = "DIR"},
    {"state", 0, "jobs that wait are kept there, and done after a restart", FIELD(state_dir),
     .arg = "DIR"},
    {"log-prompts", 0, "a log line for each job, with its prompts", FIELD(log_prompts)},
    CLI_THREADS(server_options),
    {0},
};

/* The first line of --api-key-file as the key, in `room`. */
static int read_key(const cli_parser *p, server_options *o, char *room, int cap)
{
    if (!o->api_key_file) return CLI_GO;
    if (o->api_key) return cli_usage_error(p, "%s", "--api-key and --api-key-file are both given");
    FILE *f = fopen(o->api_key_file, "re");
    const bool good = f && fgets(room, cap, f);
    const int error = errno;
    if (f) fclose(f);
    if (!f) return cli_usage_error(p, "--api-key-file %s: %s", o->api_key_file, strerror(error));
    if (good) room[strcspn(room, "\r\n")] = 0;
    if (!good || !*room)
        return cli_usage_error(p, "--api-key-file %s: a key is expected in its first line",
                               o->api_key_file);
    if (strlen(room) + 1 == (size_t)cap)
        return cli_usage_error(p, "--api-key-file %s: a key of less than %d bytes is expected",
                               o->api_key_file, cap - 1);
    o->api_key = room;
    return CLI_GO;
}

int cmd_serve(int argc, char **argv)
{
    char key[4096];
    server_options o = {.max_body_bytes = (size_t)32 << 20};
    const cli_part parts[] = {{rows, &o}, {cn_pipeline_option_rows, &o.pipeline}, {0}};
    cli_parser p = {.command = "serve",
                    .synopsis = "serve -m MODEL [options]",
                    .about = "The page is at the address that is printed, the interfaces' "
                             "description at /docs.",
                    .parts = parts,
                    .argc = argc,
                    .argv = argv};
    int status = cli_read(&p);
    if (status == CLI_GO && !strcmp(o.preview, "taesd") && !o.pipeline.preview_model)
        status = cli_usage_error(&p, "%s", "--preview taesd needs --preview-model");
    if (status == CLI_GO) status = read_key(&p, &o, key, sizeof key);
    if (status == CLI_GO) status = server_run(&o);
    cli_parser_free(&p);
    return status;
}
