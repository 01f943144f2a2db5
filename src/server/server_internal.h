/* SPDX-License-Identifier: Apache-2.0 */
/* server_internal.h - the server's parts, for the routes.
 *
 *   serve.c         starts and ends it all
 *   listen.c        addresses and sockets
 *   http_daemon.c   libmicrohttpd: limits, keys, log lines; hands whole requests to the routes
 *   routes_*.c      the interfaces
 */
#ifndef CN_SERVER_SERVER_INTERNAL_H
#define CN_SERVER_SERVER_INTERNAL_H

#include "server/draw.h"
#include "server/engine.h"
#include "server/guard.h"
#include "server/http.h"
#include "server/models.h"

#include <stdatomic.h>

struct server {
    server_options o;
    int state_lock; /* -1: none is held */
    jobs *jobs;
    engine *engine;
    models *models;
    guard_watch *watch;
    struct MHD_Daemon *daemon;
    bool loopback;     /* only this machine's own programs get here */
    char address[256]; /* as it is printed: http://127.0.0.1:7860 */
    double began_s;
    atomic_int clip_skip; /* of stable-diffusion-webui's options */
    atomic_bool ends;
    atomic_ulong requests, bad_requests, denied; /* for /metrics */
};

/* All tables of routes, NULL at the end. */
extern const http_route *const server_routes[];
extern const http_route routes_page[], routes_jobs[], routes_webui[], routes_webui_lists[],
    routes_control[], routes_openai[], routes_docs[], routes_metrics[];

/* --- listen.c --------------------------------------------------------------------------------- */

/* A listening socket, s->address and s->loopback; -1 with the reason in `why`. */
int server_listen(server *s, char *why, size_t cap);
/* Removes a Unix socket's file. */
void server_unlisten(const server *s);

/* --- http_daemon.c ---------------------------------------------------------------------------- */

bool server_daemon_start(server *s, int fd, char *why, size_t room);
void server_daemon_stop(server *s);

/* --- routes_jobs.c ---------------------------------------------------------------------------- */

draw_reader server_reader(const server *s);
/* Adds a job of a request (taken in every case) by job_read. NULL: the error is in the reply. */
job *server_add_job(const http_request *r, json_t *request, http_reply *reply);
/* Waits for its end; false: the client went away before. */
bool server_await_job(const http_request *r, const job *j);
/* Waits for its end, cancels it when the client goes away first. The reference goes unless it is
 * done; false: the error is in the reply. */
bool server_wait_job(const http_request *r, job *j, http_reply *reply);

#endif
