/* SPDX-License-Identifier: Apache-2.0 */
/* routes_lists.c - what stable-diffusion-webui's interface lists: models, samplers, LoRAs, memory.
 */
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void get_models(const http_request *r, http_reply *reply)
{
    json_t *all = models_bases(r->server->models), *list = json_array(), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        json_t *name = json_object_get(one, "name"), *hash = json_object_get(one, "hash");
        json_array_append_new(
            list, json_pack("{s:O, s:O, s:o, s:n, s:O, s:n}", "title",
                            json_object_get(one, "title"), "model_name", name, "hash",
                            *json_string_value(hash) ? json_incref(hash) : json_null(), "sha256",
                            "filename", name, "config"));
    }
    json_decref(all);
    http_reply_json(reply, 200, list);
}

static void get_samplers(const http_request *r, http_reply *reply)
{
    json_t *list = json_array();
    (void)r;
    for (int i = 0; cn_generate_sampler(i); i++)
        json_array_append_new(list, json_pack("{s:s, s:[s], s:{}}", "name", cn_generate_sampler(i),
                                              "aliases", cn_generate_sampler(i), "options"));
    http_reply_json(reply, 200, list);
}

static void get_schedulers(const http_request *r, http_reply *reply)
{
    json_t *list = json_array();
    (void)r;
    for (int i = 0; cn_generate_scheduler(i); i++) {
        const char *name = i ? cn_generate_scheduler(i) : "automatic";
        json_array_append_new(list, json_pack("{s:s, s:s, s:n, s:f, s:b}", "name", name, "label",
                                              i ? name : "Automatic", "aliases", "default_rho",
                                              -1.0, "need_inner_model", 0));
    }
    http_reply_json(reply, 200, list);
}

static void get_upscalers(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200,
                    json_pack("[{s:s, s:n, s:n, s:n, s:i}]", "name", "Lanczos", "model_name",
                              "model_path", "model_url", "scale", 4));
}

static void get_latent_modes(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200, json_pack("[{s:s}]", "name", "Latent"));
}

static void get_loras(const http_request *r, http_reply *reply)
{
    json_t *names = models_files(r->server->o.pipeline.lora_dir), *list = json_array(), *name;
    size_t i;
    json_array_foreach(names, i, name)
    {
        json_array_append_new(list, json_pack("{s:O, s:O, s:O, s:{}}", "name", name, "alias", name,
                                              "path", name, "metadata"));
    }
    json_decref(names);
    http_reply_json(reply, 200, list);
}

static void get_embeddings(const http_request *r, http_reply *reply)
{
    json_t *names = models_files(r->server->o.pipeline.embeddings_dir), *loaded = json_object();
    json_t *name;
    size_t i;
    json_array_foreach(names, i, name)
    {
        json_object_set_new(
            loaded, json_string_value(name),
            json_pack("{s:n, s:n, s:n}", "step", "sd_checkpoint", "sd_checkpoint_name"));
    }
    json_decref(names);
    http_reply_json(reply, 200, json_pack("{s:o, s:{}}", "loaded", loaded, "skipped"));
}

/* A line of /proc, in bytes. */
static double kib_of(const char *file, const char *key)
{
    char line[256];
    double value = 0;
    FILE *f = fopen(file, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) value = 1024 * strtod(line + strlen(key), NULL);
    if (f) fclose(f);
    return value;
}

static void get_memory(const http_request *r, http_reply *reply)
{
    const double total = kib_of("/proc/meminfo", "MemTotal:");
    (void)r;
    http_reply_json(reply, 200,
                    json_pack("{s:{s:f, s:f, s:f}, s:{s:s}}", "ram", "free",
                              kib_of("/proc/meminfo", "MemAvailable:"), "used",
                              kib_of("/proc/self/status", "VmRSS:"), "total", total, "cuda",
                              "error", "this server computes without CUDA"));
}

static void get_flags(const http_request *r, http_reply *reply)
{
    const server_options *o = &r->server->o;
    http_reply_json(reply, 200,
                    json_pack("{s:i, s:b, s:b, s:b}", "port", o->port, "api", 1, "api_auth",
                              o->api_key != NULL, "listen", !r->server->loopback));
}

/* Read once by each model that is open. */
static void refresh_embeddings(const http_request *r, http_reply *reply)
{
    engine_reopen(r->server->engine);
    http_reply_json(reply, 200, json_null());
}

/* Lists are read anew whenever they are asked for. */
static void refresh(const http_request *r, http_reply *reply)
{
    (void)r;
    http_reply_json(reply, 200, json_null());
}

const http_route routes_webui_lists[] = {
    {"GET", "/sdapi/v1/sd-models", get_models, 0, "Base models", NULL, "list"},
    {"GET", "/sdapi/v1/samplers", get_samplers, 0, "Samplers", NULL, "list"},
    {"GET", "/sdapi/v1/schedulers", get_schedulers, 0, "Noise levels", NULL, "list"},
    {"GET", "/sdapi/v1/upscalers", get_upscalers, 0, "Upscalers of the second pass", NULL, "list"},
    {"GET", "/sdapi/v1/latent-upscale-modes", get_latent_modes, 0, "The same for latents", NULL,
     "list"},
    {"GET", "/sdapi/v1/loras", get_loras, 0, "LoRAs in --lora-dir", NULL, "list"},
    {"GET", "/sdapi/v1/embeddings", get_embeddings, 0, "Textual inversions in --embeddings-dir",
     NULL, NULL},
    {"GET", "/sdapi/v1/memory", get_memory, ROUTE_QUIET, "Memory, in bytes", NULL, NULL},
    {"GET", "/sdapi/v1/cmd-flags", get_flags, 0, "Options of the server", NULL, NULL},
    {"POST", "/sdapi/v1/refresh-checkpoints", refresh, 0, "Lists are always fresh", NULL, "null"},
    {"POST", "/sdapi/v1/refresh-loras", refresh, 0, "Lists are always fresh", NULL, "null"},
    {"POST", "/sdapi/v1/refresh-vae", refresh, 0, "There is the VAE of --vae, or a model's own",
     NULL, "null"},
    {"POST", "/sdapi/v1/refresh-embeddings", refresh_embeddings, 0,
     "Reads --embeddings-dir anew before the next job", NULL, "null"},
    {0}};
