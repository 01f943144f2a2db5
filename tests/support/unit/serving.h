/* SPDX-License-Identifier: Apache-2.0 */
/* serving.h - for tests of `controlnet serve`: tiny_run.h with two ControlNets, a server and
 * requests to it. Each call has a bound on its time. */
#ifndef TEST_SERVING_H
#define TEST_SERVING_H

#include "../http_client.h"
#include "tiny_run.h"

#include <jansson.h>
#include <limits.h>

enum { RUN_SECONDS = 300 }; /* under sanitizers, beside other programs */

/* Set by serving_open: the program, a folder with ControlNets a and b, these, a folder for --save.
 */
extern char program[PATH_MAX], nets[256], net_a[256], net_b[256], saved[256];
extern serve_child server;

/* A server of the tiny model with these options. */
#define START(child, ...) \
    serve_start(child, program, (const char *const[]){"-m", model, __VA_ARGS__, NULL})

/* tiny_open, the ControlNets, and a server that has them; 0, or -1. */
int serving_open(void **state);
int serving_close(void **state);
/* Skips the test where the program was built without a server. */
void need_server(void);

/* The answer's JSON; fails on another status. */
json_t *ask_json(const serve_child *s, const char *method, const char *path, const json_t *body,
                 int status);
/* A text that must be there. */
const char *text_of(const json_t *object, const char *key);
/* Adds a job; request goes. */
void post_job(const serve_child *s, json_t *request, char id[64]);
/* Its state once it has ended. */
json_t *wait_job(const serve_child *s, const char *id);
/* The request's first picture as PNG bytes. */
http_answer draw(const serve_child *s, json_t *request);
/* An error with these words. */
void refuse(const char *method, const char *path, const char *headers, const char *body, int status,
            const char *words);

/* The command line, which must succeed; NULL at the end. `generate` with --no-recipe. */
void run(const char *const *args);
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})
/* PNG bytes are those of a file; what differs is told apart by pixels and text. */
void assert_like_file(const void *png, size_t n, const char *file);
/* The same of base64. */
void assert_base64_like_file(const json_t *text, const char *file);
/* A picture of TINY_PX as root/name and as base64. */
json_t *picture(const char *name, int phase, char file[256]);

#endif
