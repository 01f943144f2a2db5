/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - requests and replies between libmicrohttpd and the routes.
 *
 * A request comes to its route whole, within the limits and allowed (guard.h). A route fills in the
 * reply and returns; what it wants to send bit by bit is a stream.
 */
#ifndef CN_SERVER_HTTP_H
#define CN_SERVER_HTTP_H

#include "server/mhd.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { HTTP_WORDS = 8 };

typedef struct server server;

typedef struct http_request {
    server *server;
    struct MHD_Connection *connection;
    const char *method, *path;
    const char *words[HTTP_WORDS]; /* what stood for the path's {...}, in order */
    const char *body;              /* 0-terminated, the 0 not counted */
    size_t body_bytes;
    json_t *json; /* of a route that takes JSON; never NULL there */
} http_request;

/* Writes the next part of a reply: the number of bytes, 0: nothing for now, try again; -1: the
 * end. May wait, a second at most. */
typedef struct http_stream {
    long (*next)(void *user, char *buffer, size_t cap);
    void (*close)(void *user);
    void *user;
} http_stream;

typedef struct http_reply {
    int status;        /* 0: 200 */
    const char *type;  /* NULL: application/json */
    char *body;        /* malloc'ed */
    size_t body_bytes; /* of it */
    const void *fixed; /* instead of body, with body_bytes: bytes that stay */
    const char *allow; /* of 405; NULL */
    bool is_page;      /* with the headers of a page */
    http_stream stream;
} http_reply;

typedef void (*http_route_fn)(const http_request *r, http_reply *reply);

enum {
    ROUTE_JSON = 1,  /* takes a JSON object */
    ROUTE_OPEN = 2,  /* without the key too */
    ROUTE_LONG = 4,  /* may take as long as a job */
    ROUTE_QUIET = 8, /* isn't logged: asked for again and again */
};

/* `path` has {} where any one word stands. What else is said is for the OpenAPI document. */
typedef struct http_route {
    const char *method, *path;
    http_route_fn run;
    int flags;
    const char *summary;
    const char *takes;   /* name of the body's schema; NULL: no body */
    const char *returns; /* of the reply's; NULL: any object */
} http_route;

/* --- replies ---------------------------------------------------------------------------------- */

/* `value` goes with the reply; NULL (no memory) becomes an error. */
void http_reply_json(http_reply *reply, int status, json_t *value);
/* {"error": {"message": ..., "type": ...}, "detail": ...}: as OpenAI's clients and
 * stable-diffusion-webui's read it. */
void http_reply_error(http_reply *reply, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void http_reply_free(http_reply *reply);

/* --- requests --------------------------------------------------------------------------------- */

/* A header's value, NULL where it is absent. */
const char *http_header(const http_request *r, const char *name);
/* A value of the query, NULL. */
const char *http_query(const http_request *r, const char *name);
/* Whether the client has gone away. */
bool http_client_gone(const http_request *r);

/* The route of a method and a path, and what stood for its {...}. NULL: none; then *allow names the
 * methods that the path has ("GET, POST"), or is "". `room` holds the words. */
const http_route *http_find_route(const http_route *const *tables, const char *method,
                                  const char *path, const char *words[HTTP_WORDS], char *room,
                                  size_t cap, char *allow, size_t allow_cap);

/* A JSON object within the server's limits of nesting; NULL with a message in `why`. */
json_t *http_parse_json(const char *body, size_t n, char *why, size_t cap);

#endif
