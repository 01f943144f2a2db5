/* SPDX-License-Identifier: Apache-2.0 */
/* routes_page.c - the page and its files, from the program itself. */
#include "server/page.h"
#include "server/server_internal.h"

#include <string.h>

static const struct {
    const char *ending, *type;
} types[] = {{".html", "text/html; charset=utf-8"},
             {".css", "text/css; charset=utf-8"},
             {".js", "text/javascript; charset=utf-8"},
             {".svg", "image/svg+xml"}};

static const char *type_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].ending, dot) == 0) return types[i].type;
    return "application/octet-stream";
}

static void get_file(const http_request *r, http_reply *reply)
{
    const char *name = strcmp(r->path, "/") == 0 ? "index.html" : r->path + 1;
    const page_file *f = page_files;
    while (f->name && strcmp(f->name, name) != 0) f++;
    if (!f->name) {
        http_reply_error(reply, 404, "there is no %.100s", name);
        return;
    }
    reply->type = type_of(name);
    reply->fixed = f->bytes;
    reply->body_bytes = f->n;
    reply->is_page = true;
}

#define FILE_ROUTE(path)                                                          \
    {                                                                             \
        "GET", path, get_file, ROUTE_OPEN | ROUTE_QUIET, "The page", NULL, "file" \
    }

const http_route routes_page[] = {FILE_ROUTE("/"),           FILE_ROUTE("/style.css"),
                                  FILE_ROUTE("/icon.svg"),   FILE_ROUTE("/app.js"),
                                  FILE_ROUTE("/api.js"),     FILE_ROUTE("/controls.js"),
                                  FILE_ROUTE("/gallery.js"), FILE_ROUTE("/paint.js"),
                                  FILE_ROUTE("/train.js"),   {0}};
