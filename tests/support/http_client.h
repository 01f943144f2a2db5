/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.h - `controlnet serve` as a child, and requests to it, each with a bound on its
 * time. */
#ifndef TEST_HTTP_CLIENT_H
#define TEST_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { HTTP_SECONDS = 60, SERVE_ARGS = 48 };

typedef struct serve_child {
    pid_t pid;
    int port;          /* 0: a Unix socket */
    char address[256]; /* as printed */
    char said[4096];   /* what it said instead of an address */
} serve_child;

/* `controlnet serve --port 0 args...` (NULL at the end), once it has printed its address; false
 * when it ended before. program: its path. */
bool serve_start(serve_child *s, const char *program, const char *const *args);
/* Sends the signal and waits: the exit status. */
int serve_stop(serve_child *s, int signal_number);

typedef struct http_answer {
    int status; /* 0: none came */
    char *head; /* with the status line; 0-terminated as the body is */
    char *body; /* within head's memory */
    size_t bytes;
} http_answer;

/* One request in HTTP/1.0; headers: lines that end with "\r\n", or NULL. body NULL: none. Free with
 * http_free. */
http_answer http_ask(const serve_child *s, const char *method, const char *path,
                     const char *headers, const void *body, size_t n);
/* Sends bytes as they are. */
http_answer http_send(const serve_child *s, const void *bytes, size_t n);
/* A connection, -1: none. */
int http_connect(const serve_child *s);
void http_free(http_answer *a);

#endif
