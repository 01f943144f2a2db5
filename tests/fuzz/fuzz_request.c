/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_request.c - what the server reads of strangers: JSON bodies to jobs of every interface,
 * forms, base64, paths, headers. The first byte says which. */
#include "server/base64.h"
#include "server/draw.h"
#include "server/guard.h"
#include "server/http.h"
#include "server/models.h"
#include "server/multipart.h"
#include "server/picture.h"
#include "server/webui.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_job(json_t *request)
{
    static const server_options options = {.max_steps = 150,
                                           .max_batch = 16,
                                           .max_prompt = 1000,
                                           .max_pixels = 1 << 16,
                                           .preview = "none"};
    static const char *const base[] = {"model", NULL};
    static models *none;
    const job_kind *kind = NULL;
    char why[WHY_BYTES];
    if (!none) none = models_open(base, NULL);
    const draw_reader reader = {&options, none};
    void *work = job_read(&reader, request, &kind, why);
    if (work) kind->free_work(work);
    json_decref(request);
}

static void read_json(const char *text, size_t n, int interface)
{
    char why[WHY_BYTES];
    json_t *body = http_parse_json(text, n, why, sizeof why), *maps = NULL;
    if (!body) return;
    json_t *request = interface == 0 ? json_incref(body)
                                     : webui_draw_request(body, interface == 2, 1, &maps, why);
    if (request) read_job(request);
    json_decref(maps);
    json_decref(body);
}

static void read_form(const char *text, size_t n)
{
    multipart_part parts[8];
    const int count = multipart_parse("multipart/form-data; boundary=AaB03x", text, n, parts, 8);
    for (int i = 0; i < count; i++)
        if (parts[i].data < text || parts[i].bytes > n) abort();
}

static void read_words(const char *text)
{
    static const http_route table[] = {{"GET", "/a/{x}", NULL, 0, "", NULL, NULL},
                                       {"GET", "/a/{x}/b/{y}", NULL, 0, "", NULL, NULL},
                                       {0}};
    const http_route *const tables[] = {table, NULL};
    const char *words[HTTP_WORDS];
    char room[256], allow[64], name[64];
    size_t n = 0;
    http_find_route(tables, "GET", text, words, room, sizeof room, allow, sizeof allow);
    guard_is_loopback_host(text);
    guard_allows_origin(text, text, NULL);
    guard_knows_key("k", text, text);
    models_name_of(text, name, sizeof name);
    webui_preprocessor(text, 1, 2, name, sizeof name);
    free(picture_bytes(text, &n));
    json_decref(webui_parse_parameters(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    char *text = malloc(size);
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 5) {
    case 0:
    case 1:
    case 2: read_json(text, size - 1, data[0] % 5); break;
    case 3: read_form(text, size - 1); break;
    default: read_words(text);
    }
    free(text);
    return 0;
}
