/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - replies, headers, routes and JSON bodies. */
#include "server/http.h"

#include "io/json_text.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Deeper than any request; what parses by recursion stays far from its stack's end. */
enum { JSON_DEPTH = 32 };

/* --- replies ---------------------------------------------------------------------------------- */

void http_reply_free(http_reply *reply)
{
    free(reply->body);
    if (reply->stream.close) reply->stream.close(reply->stream.user);
    *reply = (http_reply){0};
}

void http_reply_json(http_reply *reply, int status, json_t *value)
{
    http_reply_free(reply);
    reply->body = cn_json_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    reply->status = reply->body ? status : 500;
    if (!reply->body) reply->body = strdup("{\"error\":{\"message\":\"out of memory\"}}");
    reply->body_bytes = reply->body ? strlen(reply->body) : 0;
}

void http_reply_error(http_reply *reply, int status, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_t *message = json_string(text);
    if (!message) message = json_string("the message is no UTF-8");
    const char *type = status >= 500 ? "server_error" : "invalid_request_error";
    http_reply_json(reply, status,
                    json_pack("{s:{s:O, s:s, s:n, s:n}, s:o}", "error", "message", message, "type",
                              type, "param", "code", "detail", message));
}

/* --- requests --------------------------------------------------------------------------------- */

const char *http_header(const http_request *r, const char *name)
{
    return mhd.MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *http_query(const http_request *r, const char *name)
{
    return mhd.MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool http_client_gone(const http_request *r)
{
    const union MHD_ConnectionInfo *info =
        mhd.MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd p = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* --- routes ----------------------------------------------------------------------------------- */

/* Whether a path fits a pattern; the words for {} go to `room`, one behind the other. */
static bool fits(const char *pattern, const char *path, const char *words[HTTP_WORDS], char *room,
                 size_t cap)
{
    int n = 0;
    while (*pattern) {
        if (pattern[0] != '{') {
            if (*pattern++ != *path++) return false;
            continue;
        }
        const size_t length = strcspn(path, "/");
        if (!length || length + 1 > cap || n == HTTP_WORDS) return false;
        memcpy(room, path, length);
        room[length] = 0;
        words[n++] = room;
        room += length + 1;
        cap -= length + 1;
        path += length;
        pattern += strcspn(pattern, "}") + 1;
    }
    return !*path;
}

static void add_method(char *allow, size_t cap, const char *method)
{
    const size_t n = strlen(allow);
    if (!strstr(allow, method)) snprintf(allow + n, cap - n, "%s%s", n ? ", " : "", method);
}

const http_route *http_find_route(const http_route *const *tables, const char *method,
                                  const char *path, const char *words[HTTP_WORDS], char *room,
                                  size_t cap, char *allow, size_t allow_cap)
{
    allow[0] = 0;
    for (; *tables; tables++)
        for (const http_route *route = *tables; route->method; route++) {
            if (!fits(route->path, path, words, room, cap)) continue;
            const bool head = !strcmp(method, "HEAD") && !strcmp(route->method, "GET");
            if (head || !strcmp(route->method, method)) return route;
            add_method(allow, allow_cap, route->method);
        }
    return NULL;
}

/* --- bodies ----------------------------------------------------------------------------------- */

/* Brackets outside of strings; whether the text is JSON at all is jansson's to say. */
static bool is_too_deep(const char *body, size_t n)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        const char c = body[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        if (c == '"') quoted = true;
        if ((c == '{' || c == '[') && ++depth > JSON_DEPTH) return true;
        if (c == '}' || c == ']') depth--;
    }
    return false;
}

json_t *http_parse_json(const char *body, size_t n, char *why, size_t cap)
{
    json_error_t error;
    if (is_too_deep(body, n)) {
        snprintf(why, cap, "the body is nested deeper than %d", JSON_DEPTH);
        return NULL;
    }
    json_t *value = cn_json_parse(body, n, JSON_REJECT_DUPLICATES, &error);
    if (!value)
        snprintf(why, cap, "the body is no JSON: line %d, column %d: %s", error.line, error.column,
                 error.text);
    else if (!json_is_object(value))
        snprintf(why, cap, "a JSON object is expected");
    if (json_is_object(value)) return value;
    json_decref(value);
    return NULL;
}
