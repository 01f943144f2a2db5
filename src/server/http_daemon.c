/* SPDX-License-Identifier: Apache-2.0 */
/* http_daemon.c - libmicrohttpd: from connections to whole, allowed requests, and back.
 *
 * A thread a connection: a request that waits for its drawing simply waits. What is too large, too
 * slow or not allowed is refused before its body is read.
 */
#include "server/server_internal.h"

#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

CN_LIBRARY(, mhd, MHD_CALLS, CN_SONAME_MHD, "there is no server");

enum { STACK_BYTES = 1 << 20, IDLE_S = 60, FIRST_ROOM = 1 << 14 };

/* A request on its way. */
typedef struct incoming {
    server *server;
    const http_route *route;
    char path[1024]; /* as it was asked for, for the log */
    char method[16];
    char room[1024]; /* of words */
    const char *words[HTTP_WORDS];
    char *body;
    size_t bytes, cap;
    bool too_large, no_memory, answered;
    int status;
    double began_s;
} incoming;

/* --- log lines -------------------------------------------------------------------------------- */

/* One line of JSON a request; no query and no body, so no prompt. */
static void log_request(const incoming *in)
{
    if (in->route && (in->route->flags & ROUTE_QUIET) && in->status < 400) return;
    json_t *line = json_pack("{s:I, s:s, s:s, s:i, s:f}", "time", (json_int_t)time(NULL), "method",
                             in->method, "path", in->path, "status", in->status, "seconds",
                             (double)(int)(1e4 * (jobs_now_s() - in->began_s)) / 1e4);
    char *text = cn_json_text(line, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text) fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(line);
}

/* --- replies ---------------------------------------------------------------------------------- */

static ssize_t read_stream(void *user, uint64_t at, char *buffer, size_t cap)
{
    http_stream *s = user;
    (void)at;
    const long n = s->next(s->user, buffer, cap);
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void close_stream(void *user)
{
    http_stream *s = user;
    if (s->close) s->close(s->user);
    free(s);
}

static struct MHD_Response *open_stream(http_reply *reply)
{
    http_stream *s = malloc(sizeof *s);
    if (!s) return NULL;
    *s = reply->stream;
    reply->stream = (http_stream){0};
    struct MHD_Response *response = mhd.MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, FIRST_ROOM, read_stream, s, close_stream);
    if (!response) close_stream(s);
    return response;
}

static struct MHD_Response *make_response(http_reply *reply)
{
    struct MHD_Response *response = NULL;
    if (reply->stream.next) return open_stream(reply);
    if (reply->fixed)
        return mhd.MHD_create_response_from_buffer(
            reply->body_bytes, (void *)(uintptr_t)reply->fixed, MHD_RESPMEM_PERSISTENT);
    response = mhd.MHD_create_response_from_buffer(
        reply->body_bytes, reply->body ? reply->body : "",
        reply->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response) reply->body = NULL;
    return response;
}

/* The page loads nothing from elsewhere, and isn't shown within another. */
static void add_headers(const server *s, const http_reply *reply, struct MHD_Response *response)
{
    mhd.MHD_add_response_header(response, "Content-Type",
                                reply->type ? reply->type : "application/json");
    mhd.MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    mhd.MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    mhd.MHD_add_response_header(response, "Cache-Control", "no-store");
    if (reply->is_page)
        mhd.MHD_add_response_header(
            response, "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
            "'self' data: blob:; connect-src 'self'; form-action 'none'; "
            "base-uri 'none'; frame-ancestors 'none'");
    if (reply->allow) mhd.MHD_add_response_header(response, "Allow", reply->allow);
    if (reply->status == 401)
        mhd.MHD_add_response_header(response, "WWW-Authenticate", "Bearer realm=\"controlnet\"");
    if (reply->status == 503 || reply->status == 429)
        mhd.MHD_add_response_header(response, "Retry-After", "5");
    if (!s->o.cors) return;
    mhd.MHD_add_response_header(response, "Access-Control-Allow-Origin", s->o.cors);
    mhd.MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    mhd.MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                "Authorization, Content-Type, X-API-Key");
    mhd.MHD_add_response_header(response, "Vary", "Origin");
}

static enum MHD_Result answer(incoming *in, struct MHD_Connection *c, http_reply *reply)
{
    if (!reply->status) reply->status = 200;
    in->status = reply->status;
    in->answered = true;
    struct MHD_Response *response = make_response(reply);
    enum MHD_Result done = MHD_NO;
    if (response) {
        add_headers(in->server, reply, response);
        done = mhd.MHD_queue_response(c, (unsigned)reply->status, response);
        mhd.MHD_destroy_response(response);
    }
    http_reply_free(reply);
    return done;
}

static enum MHD_Result refuse(incoming *in, struct MHD_Connection *c, int status, const char *text)
{
    http_reply reply = {0};
    http_reply_error(&reply, status, "%s", text);
    return answer(in, c, &reply);
}

/* --- before the body -------------------------------------------------------------------------- */

static const char *header(struct MHD_Connection *c, const char *name)
{
    return mhd.MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static bool is_too_long(const server *s, const char *length)
{
    return length && (strlen(length) > 18 || strtoull(length, NULL, 10) > s->o.max_body_bytes);
}

/* 0: go on; else the status to refuse with. */
static int check_sender(incoming *in, struct MHD_Connection *c, const char **why)
{
    const server *s = in->server;
    const char *host = header(c, "Host"), *origin = header(c, "Origin");
    const bool unix_socket = strncmp(s->o.host, "unix:", 5) == 0;
    if (s->loopback && !unix_socket && !guard_is_loopback_host(host)) {
        *why = "the Host header names another machine: use the address that was printed";
        return 403;
    }
    if (!guard_allows_origin(origin, host, s->o.cors)) {
        *why = "pages of another origin may not use this server (--cors)";
        return 403;
    }
    if (s->o.api_key && (!in->route || !(in->route->flags & ROUTE_OPEN)) &&
        !guard_knows_key(s->o.api_key, header(c, "Authorization"), header(c, "X-API-Key"))) {
        *why = "a key is expected: Authorization: Bearer KEY";
        return 401;
    }
    return 0;
}

static enum MHD_Result refuse_method(incoming *in, struct MHD_Connection *c, const char *allow)
{
    http_reply reply = {0};
    if (!*allow) {
        http_reply_error(&reply, 404, "there is no %.200s; /docs lists what there is", in->path);
        return answer(in, c, &reply);
    }
    const bool asks = in->server->o.cors && strcmp(in->method, "OPTIONS") == 0;
    if (asks)
        reply.status = 204;
    else
        http_reply_error(&reply, 405, "%.200s takes %s", in->path, allow);
    reply.allow = allow;
    return answer(in, c, &reply);
}

/* MHD_YES with nothing queued: the body may come. */
static enum MHD_Result begin(incoming *in, struct MHD_Connection *c)
{
    char allow[128];
    const char *why = NULL;
    in->route = http_find_route(server_routes, in->method, in->path, in->words, in->room,
                                sizeof in->room, allow, sizeof allow);
    const int status = check_sender(in, c, &why);
    if (status) {
        in->server->denied++;
        return refuse(in, c, status, why);
    }
    if (!in->route) return refuse_method(in, c, allow);
    if (is_too_long(in->server, header(c, "Content-Length")))
        return refuse(in, c, 413, "the body is larger than this server takes (--max-body)");
    return MHD_YES;
}

/* --- the body --------------------------------------------------------------------------------- */

static void take(incoming *in, const char *data, size_t n)
{
    if (in->too_large || in->no_memory) return;
    if (n > in->server->o.max_body_bytes - in->bytes) {
        in->too_large = true;
        free(in->body);
        in->body = NULL;
        return;
    }
    if (in->bytes + n + 1 > in->cap) {
        const size_t cap = 2 * (in->bytes + n) + FIRST_ROOM;
        char *more = realloc(in->body, cap);
        if (!more) {
            in->no_memory = true;
            return;
        }
        in->body = more;
        in->cap = cap;
    }
    memcpy(in->body + in->bytes, data, n);
    in->bytes += n;
    in->body[in->bytes] = 0;
}

static enum MHD_Result dispatch(incoming *in, struct MHD_Connection *c)
{
    http_request r = {.server = in->server,
                      .connection = c,
                      .method = in->method,
                      .path = in->path,
                      .body = in->body ? in->body : "",
                      .body_bytes = in->bytes};
    http_reply reply = {0};
    char why[512];
    memcpy(r.words, in->words, sizeof r.words);
    if (in->too_large)
        return refuse(in, c, 413, "the body is larger than this server takes (--max-body)");
    if (in->no_memory) return refuse(in, c, 503, "out of memory");
    if (in->route->flags & ROUTE_JSON) {
        r.json = http_parse_json(r.body, r.body_bytes, why, sizeof why);
        if (!r.json) return refuse(in, c, 400, why);
        free(in->body); /* what was parsed holds all of it */
        in->body = NULL;
        r.body = "";
        r.body_bytes = 0;
    }
    if (in->route->flags & ROUTE_LONG)
        mhd.MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    in->route->run(&r, &reply);
    json_decref(r.json);
    return answer(in, c, &reply);
}

/* --- libmicrohttpd's callbacks ---------------------------------------------------------------- */

static guard_entry *entry_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        mhd.MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void on_connection(void *user, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    server *s = user;
    const union MHD_ConnectionInfo *info =
        mhd.MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (code == MHD_CONNECTION_NOTIFY_STARTED && info)
        *context = guard_add(s->watch, info->connect_fd);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED && *context) guard_remove(s->watch, *context);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **context)
{
    server *s = user;
    incoming *in = *context;
    (void)version;
    if (!in) {
        in = calloc(1, sizeof *in);
        if (!in) return MHD_NO;
        *context = in;
        *in = (incoming){.server = s, .began_s = jobs_now_s()};
        snprintf(in->path, sizeof in->path, "%s", url);
        snprintf(in->method, sizeof in->method, "%s", method);
        s->requests++;
        guard_enter(s->watch, entry_of(c), GUARD_BODY);
        if (strlen(url) >= sizeof in->path) return refuse(in, c, 414, "the path is too long");
        return begin(in, c);
    }
    if (*n) {
        take(in, data, *n);
        *n = 0;
        return MHD_YES;
    }
    if (in->answered) return MHD_YES;
    guard_enter(s->watch, entry_of(c), GUARD_REPLY);
    return dispatch(in, c);
}

static void on_completed(void *user, struct MHD_Connection *c, void **context,
                         enum MHD_RequestTerminationCode code)
{
    server *s = user;
    incoming *in = *context;
    (void)code;
    if (in) {
        if (in->status >= 400) s->bad_requests++;
        if (!in->status) in->status = 499; /* gone before it was answered */
        log_request(in);
        free(in->body);
        free(in);
    }
    *context = NULL;
    mhd.MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)IDLE_S);
    guard_enter(s->watch, entry_of(c), GUARD_HEAD);
}

/* What libmicrohttpd says of clients that misbehave is no news. */
static void on_message(void *user, const char *fmt, va_list args)
{
    (void)user, (void)fmt, (void)args;
}

bool server_daemon_start(server *s, int fd, char *why, size_t room)
{
    if (!cn_library_find(&mhd_library, why, room)) return false;
    s->daemon = mhd.MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
            MHD_USE_ERROR_LOG | MHD_USE_ITC,
        0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_message, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->o.connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_THREAD_STACK_SIZE,
        (size_t)STACK_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    if (!s->daemon) snprintf(why, room, "libmicrohttpd doesn't start");
    return s->daemon != NULL;
}

void server_daemon_stop(server *s)
{
    if (s->daemon) mhd.MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}
