/* SPDX-License-Identifier: Apache-2.0 */
/* routes_docs.c - the interfaces' description: OpenAPI 3.1, made from the tables of routes and of
 * options, and the same as a page. */
#include "server/openai.h"
#include "server/server_internal.h"
#include "server/webui.h"
#include "io/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- schemas ---------------------------------------------------------------------------------- */

static const char fixed_schemas[] =
    "{\"Job\":{\"oneOf\":[{\"$ref\":\"#/components/schemas/Generate\"},{\"$ref\":"
    "\"#/components/schemas/Annotate\"},{\"$ref\":\"#/components/schemas/Train\"}]},"
    "\"JobState\":{\"type\":\"object\",\"required\":[\"id\",\"type\",\"state\"],\"properties\":{"
    "\"id\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},\"state\":{\"enum\":[\"queued\","
    "\"running\",\"done\",\"failed\",\"cancelled\"]},\"position\":{\"type\":\"integer\"},\"stage\":"
    "{"
    "\"type\":\"string\"},\"step\":{\"type\":\"integer\"},\"steps\":{\"type\":\"integer\"},"
    "\"waited_seconds\":{\"type\":\"number\"},\"run_seconds\":{\"type\":\"number\"},\"ready_"
    "seconds\":{\"type\":\"number\"},\"eta_"
    "seconds\":"
    "{\"type\":\"number\"},\"error\":{\"type\":\"string\"},\"notes\":{\"type\":\"array\",\"items\":"
    "{"
    "\"type\":\"string\"}},\"result\":{\"type\":\"object\",\"properties\":{\"images\":{\"type\":"
    "\"array\",\"items\":{\"type\":\"string\",\"contentEncoding\":\"base64\"}},\"parameters\":{"
    "\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"conditions\":{\"type\":\"array\","
    "\"items\":{\"type\":\"string\",\"contentEncoding\":\"base64\"}},\"seed\":{\"type\":"
    "\"integer\"}"
    "}}}},"
    "\"WebuiPictures\":{\"type\":\"object\",\"required\":[\"images\",\"parameters\",\"info\"],"
    "\"properties\":{\"images\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"
    "\"parameters\":"
    "{\"type\":\"object\"},\"info\":{\"type\":\"string\"}}},"
    "\"WebuiPngInfo\":{\"type\":\"object\",\"required\":[\"image\"],\"properties\":{\"image\":{"
    "\"type\":\"string\",\"contentEncoding\":\"base64\"}}},"
    "\"WebuiOptions\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"sd_model_checkpoint\":{\"type\":[\"string\",\"null\"]},\"CLIP_stop_at_last_layers\":{"
    "\"type\":["
    "\"integer\","
    "\"null\"],\"minimum\":1,\"maximum\":1000}}},"
    "\"OpenaiPictures\":{\"type\":\"object\",\"required\":[\"created\",\"data\"],\"properties\":{"
    "\"created\":{\"type\":\"integer\"},\"data\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"object\"}"
    "}}},"
    "\"OpenaiEdits\":{\"type\":\"object\",\"required\":[\"image\",\"prompt\"],\"properties\":{"
    "\"image\":{\"type\":\"string\",\"contentMediaType\":\"application/octet-stream\"},\"mask\":{"
    "\"type\":\"string\",\"contentMediaType\":\"application/octet-stream\"},\"prompt\":{\"type\":"
    "\"string\",\"minLength\":1},\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":64},"
    "\"size\":{"
    "\"type\":\"string\"},\"response_format\":{\"enum\":[\"b64_json\",\"url\"]}}},"
    "\"Error\":{\"type\":\"object\",\"required\":[\"error\",\"detail\"],\"properties\":{\"error\":{"
    "\"type\":\"object\",\"required\":[\"message\",\"type\"],\"properties\":{\"message\":{\"type\":"
    "\"string\"},\"type\":{\"type\":\"string\"}}},\"detail\":{\"type\":\"string\"}}}}";

static json_t *schemas(void)
{
    json_t *all = cn_json_parse_string(fixed_schemas, 0), *drawing = draw_schema();
    json_object_update(all, drawing);
    json_decref(drawing);
    json_object_set_new(all, "Annotate", annotate_schema());
    json_object_set_new(all, "Train", train_schema());
    json_object_set_new(all, "WebuiTxt2Img", members_schema(webui_txt2img_members, NULL, true));
    json_object_set_new(all, "WebuiImg2Img",
                        members_schema(webui_img2img_members, "init_images", true));
    json_object_set_new(all, "WebuiControlUnit", members_schema(webui_unit_members, NULL, true));
    json_object_set_new(all, "WebuiDetect", members_schema(webui_detect_members, NULL, true));
    json_object_set_new(all, "OpenaiImages", members_schema(openai_members, "prompt", true));
    return all;
}

/* --- paths ------------------------------------------------------------------------------------ */

static json_t *reference(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "#/components/schemas/%s", name);
    return json_pack("{s:s}", "$ref", path);
}

static json_t *content(const char *type, json_t *schema)
{
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

/* Words that stand for no schema. */
static json_t *content_of(const char *returns)
{
    if (!returns) return content("application/json", json_pack("{s:s}", "type", "object"));
    if (!strcmp(returns, "list"))
        return content("application/json", json_pack("{s:s}", "type", "array"));
    if (!strcmp(returns, "null"))
        return content("application/json", json_pack("{s:s}", "type", "null"));
    if (!strcmp(returns, "events"))
        return content("text/event-stream", json_pack("{s:s}", "type", "string"));
    if (!strcmp(returns, "png")) return content("image/png", json_object());
    if (!strcmp(returns, "file")) return content("*/*", json_object());
    if (!strcmp(returns, "text"))
        return content("text/plain", json_pack("{s:s}", "type", "string"));
    if (!strcmp(returns, "style")) return content("text/css", json_pack("{s:s}", "type", "string"));
    if (!strcmp(returns, "page")) return content("text/html", json_pack("{s:s}", "type", "string"));
    return content("application/json", reference(returns));
}

static json_t *parameters_of(const char *path)
{
    json_t *list = json_array();
    for (const char *at = path; (at = strchr(at, '{')); at++) {
        const size_t n = strcspn(at + 1, "}");
        json_array_append_new(
            list, json_pack("{s:s%, s:s, s:b, s:{s:s, s:i}}", "name", at + 1, n, "in", "path",
                            "required", 1, "schema", "type", "string", "minLength", 1));
    }
    return list;
}

static void add_errors(json_t *responses, const http_route *route)
{
    static const struct {
        const char *status, *text;
        int flags; /* of routes that have it; 0: all */
    } errors[] = {{"400", "no request in HTTP or JSON", 0},
                  {"401", "a key is expected", 0},
                  {"403", "a host or an origin that isn't let in", 0},
                  {"413", "more bytes than are taken", 0},
                  {"422", "what the message says", 0},
                  {"429", "the queue is full", 0},
                  {"500", "the job failed", ROUTE_LONG},
                  {"503", "the server ends, or the job was cancelled", 0}};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!errors[i].flags || (route->flags & errors[i].flags))
            json_object_set_new(responses, errors[i].status,
                                json_pack("{s:s, s:o}", "description", errors[i].text, "content",
                                          content("application/json", reference("Error"))));
    if (strchr(route->path, '{'))
        json_object_set_new(responses, "404",
                            json_pack("{s:s, s:o}", "description", "there is no such thing",
                                      "content", content("application/json", reference("Error"))));
}

static json_t *operation(const http_route *route)
{
    const bool accepts = !strcmp(route->method, "POST") && !strcmp(route->path, "/v1/jobs");
    json_t *responses = json_object(), *out = json_object();
    json_object_set_new(
        responses, accepts ? "202" : "200",
        json_pack("{s:s, s:o}", "description", "done", "content", content_of(route->returns)));
    add_errors(responses, route);
    json_object_set_new(out, "summary", json_string(route->summary));
    json_object_set_new(out, "parameters", parameters_of(route->path));
    if (route->takes) {
        const char *type = route->flags & ROUTE_JSON ? "application/json" : "multipart/form-data";
        json_object_set_new(out, "requestBody",
                            json_pack("{s:b, s:o}", "required", 1, "content",
                                      content(type, reference(route->takes))));
    }
    json_object_set_new(out, "responses", responses);
    return out;
}

static json_t *paths(void)
{
    json_t *all = json_object();
    for (const http_route *const *table = server_routes; *table; table++)
        for (const http_route *route = *table; route->method; route++) {
            char method[16];
            snprintf(method, sizeof method, "%s", route->method);
            for (char *c = method; *c; c++) *c = (char)(*c | 32);
            if (!json_object_get(all, route->path))
                json_object_set_new(all, route->path, json_object());
            json_object_set_new(json_object_get(all, route->path), method, operation(route));
        }
    return all;
}

static json_t *document(void)
{
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.1.0", "info", "title",
                     "controlnet.c", "version", CN_VERSION, "description",
                     "Drawings with Stable Diffusion and ControlNet. docs/server.md has more.",
                     "paths", paths(), "components", "schemas", schemas());
}

static void get_openapi(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200, document());
}

/* --- the page --------------------------------------------------------------------------------- */

static void put_text(FILE *f, const char *text)
{
    for (; text && *text; text++) switch (*text) {
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '&': fputs("&amp;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc(*text, f);
        }
}

/* The page's parts are no interface. */
static bool is_part(const http_route *route)
{
    const char *returns = route->returns;
    return returns && route->path[1] && (!strcmp(returns, "file") || !strcmp(returns, "style"));
}

static void put_routes(FILE *f)
{
    fputs("<h2>Routes</h2><table><thead><tr><th scope=\"col\">Route</th><th scope=\"col\">What it "
          "does</th><th scope=\"col\">Takes</th></tr></thead><tbody>",
          f);
    for (const http_route *const *table = server_routes; *table; table++)
        for (const http_route *route = *table; route->method; route++) {
            if (is_part(route)) continue;
            fprintf(f, "<tr><td><code>%s %s</code></td><td>", route->method, route->path);
            put_text(f, route->summary);
            fputs("</td><td>", f);
            if (route->takes) fprintf(f, "<a href=\"#%s\">%s</a>", route->takes, route->takes);
            fputs("</td></tr>", f);
        }
    fputs("</tbody></table>", f);
}

static void put_type(FILE *f, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *words = json_object_get(schema, "enum");
    const char *name =
        json_is_array(type) ? json_string_value(json_array_get(type, 0)) : json_string_value(type);
    if (!words) words = json_object_get(schema, "examples");
    if (!words) fputs(name ? name : "", f);
    for (size_t i = 0; i < json_array_size(words); i++) {
        if (!json_is_string(json_array_get(words, i))) continue;
        if (i) fputs(", ", f);
        put_text(f, json_string_value(json_array_get(words, i)));
    }
    const json_t *least = json_object_get(schema, "minimum");
    const json_t *most = json_object_get(schema, "maximum");
    if (least && most)
        fprintf(f, " %.15g to %.15g", json_number_value(least), json_number_value(most));
}

static void put_schema(FILE *f, const char *name, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    const char *field;
    json_t *value;
    if (!json_object_size(properties)) return;
    fprintf(f,
            "<h3 id=\"%s\">%s</h3><table><thead><tr><th scope=\"col\">Member</th><th "
            "scope=\"col\">Type</th><th scope=\"col\">What it is</th></tr></thead><tbody>",
            name, name);
    json_object_foreach((json_t *)(uintptr_t)properties, field, value)
    {
        char *preset = cn_json_text(json_object_get(value, "default"), JSON_ENCODE_ANY);
        fprintf(f, "<tr><td><code>%s</code></td><td>", field);
        put_type(f, value);
        fputs("</td><td>", f);
        put_text(f, json_string_value(json_object_get(value, "description")));
        if (preset && strcmp(preset, "\"\"") != 0) {
            fputs(" <i>(", f);
            put_text(f, preset);
            fputs(")</i>", f);
        }
        free(preset);
        fputs("</td></tr>", f);
    }
    fputs("</tbody></table>", f);
}

static void get_docs(const http_request *r, http_reply *reply)
{
    json_t *all = schemas(), *schema;
    const char *name;
    FILE *f = open_memstream(&reply->body, &reply->body_bytes);
    (void)r;
    if (!f) {
        json_decref(all);
        http_reply_error(reply, 503, "out of memory");
        return;
    }
    fputs("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
          "content=\"width=device-width\"><title>controlnet.c: interfaces</title><link "
          "rel=\"stylesheet\" href=\"/docs.css\"><main><h1>Interfaces</h1><p>The same as OpenAPI "
          "3.1: <a href=\"/openapi.json\">/openapi.json</a>.</p>",
          f);
    put_routes(f);
    fputs("<h2>Bodies</h2>", f);
    json_object_foreach(all, name, schema)
    {
        put_schema(f, name, schema);
    }
    fputs("</main></html>", f);
    if (fclose(f) != 0) http_reply_error(reply, 503, "out of memory");
    reply->type = "text/html; charset=utf-8";
    reply->is_page = true;
    json_decref(all);
}

static void get_style(const http_request *r, http_reply *reply)
{
    static const char style[] =
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0;"
        "background:light-dark(#fff,#131318);color:light-dark(#1b1b22,#ececf2)}"
        "a{color:light-dark(#4338ca,#a5a0ff)}main{max-width:60rem;margin:auto;padding:1rem}table{"
        "border-collapse:collapse;width:100%}"
        "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px "
        "solid #8884}code{font-size:.9em;overflow-wrap:anywhere}"
        "@media(max-width:600px){thead{display:none}tr{display:block;padding:.4rem "
        "0;border-bottom:1px solid #8884}td{display:block;border:0;padding:.1rem 0}"
        "td:empty{display:none}}";
    (void)r;
    reply->type = "text/css";
    reply->fixed = style;
    reply->body_bytes = sizeof style - 1;
}

const http_route routes_docs[] = {
    {"GET", "/openapi.json", get_openapi, ROUTE_OPEN, "This description", NULL, NULL},
    {"GET", "/docs", get_docs, ROUTE_OPEN, "The same to read", NULL, "page"},
    {"GET", "/docs.css", get_style, ROUTE_OPEN | ROUTE_QUIET, "Its style", NULL, "style"},
    {0}};
