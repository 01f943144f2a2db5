/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - what `controlnet serve` asks of the server: one call that ends with a signal.
 *
 * The server stands on controlnet.h alone, as src/cli does.
 */
#ifndef CN_SERVER_SERVER_H
#define CN_SERVER_SERVER_H

#include "controlnet.h"

typedef struct server_options {
    cn_pipeline_options pipeline;    /* without model and ControlNets, which jobs name */
    const char *const *models;       /* base models, and folders of them, NULL at the end */
    const char *const *control_dirs; /* folders of ControlNets, NULL at the end; or NULL */
    const char *annotators_dir;      /* networks of preprocessors; NULL: none */
    const char *data_dir;            /* training pairs; NULL: no training */
    const char *save_dir;            /* gets every picture that is drawn; NULL: none are kept */
    const char *state_dir;           /* keeps queued jobs; NULL: they go with the process */
    const char *host;                /* an address, "localhost", or "unix:PATH" */
    const char *api_key;             /* NULL: none is asked for */
    const char *api_key_file;        /* a file with the key; NULL */
    const char *cors;                /* an origin whose pages may use the server; NULL: none */
    const char *preview;             /* "none", "latent", "vae", "taesd" */
    int port;                        /* 0: one that the system chooses */
    int threads;                     /* of the engine; 0: one per core */
    int queue;                       /* jobs that may wait */
    int batch_jobs;                  /* equal ones that are drawn at once; 1: each alone */
    int job_timeout_s;               /* a job that takes longer is stopped; 0: none is */
    int connections;                 /* at a time */
    int header_timeout_s, body_timeout_s; /* until a request's head, its body, is there */
    int max_steps, max_batch, max_prompt; /* of a job; bytes of a prompt */
    int64_t max_pixels;                   /* of a picture that is drawn or sent */
    size_t max_body_bytes;
    bool no_auth;     /* beyond loopback without a key */
    bool open;        /* a browser on the page */
    bool log_prompts; /* a log line for each job, with its prompts */
} server_options;

/* Serves until SIGINT or SIGTERM; a second one ends the process. Prints the address on standard
 * output, log lines and errors on standard error. Returns the program's exit status. */
int server_run(const server_options *options);

#endif
