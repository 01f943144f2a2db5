/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the one thread that draws, annotates and trains, with what it keeps loaded. */
#ifndef CN_SERVER_ENGINE_H
#define CN_SERVER_ENGINE_H

#include "server/jobs.h"
#include "server/server.h"

#include <stdatomic.h>

enum { ENGINE_ANNOTATORS = 4, ENGINE_MODELS = 16 };

/* A base model that is open. */
typedef struct engine_model {
    char *path; /* NULL: none */
    cn_pipeline *pipeline;
} engine_model;

/* A preprocessor that stays open, the last used first. */
typedef struct engine_annotator {
    char *key; /* kind, settings, resolutions */
    cn_annotator *annotator;
} engine_annotator;

struct engine {
    const server_options *options;
    jobs *jobs;
    cn_ctx *ctx;
    engine_model models[ENGINE_MODELS]; /* the last used first */
    atomic_uint asked_anew, read_anew;  /* how often files are to be, and were, read anew */
    atomic_int n_open;                  /* of models, and their networks' bytes, for /metrics */
    atomic_size_t loaded_bytes;
    job *now; /* the running job, for callbacks */
    engine_annotator annotators[ENGINE_ANNOTATORS];
};

/* Opens the base model at `path`; NULL with the reason in `why`. */
engine *engine_open(const server_options *options, const char *path, jobs *q, char *why,
                    size_t cap);
/* Models are opened anew for the next job, with whatever the folders hold then. From any thread. */
void engine_reopen(engine *e);
/* The base model at `path`, opened unless it is, with these ControlNets. */
cn_status engine_model_at(engine *e, const char *path, const char *const *controls, int n_controls,
                          cn_pipeline **out);
/* Lets the networks of models that were used longer ago go until the drawing fits --max-memory
 * beside the others, or is alone. Without a limit a model is alone in any case. */
cn_status engine_make_room(engine *e, const cn_generate_options *o);
/* Networks of all models go. */
void engine_unload(engine *e);
/* Runs jobs until the queue is shut. */
void *engine_run(void *user);
void engine_close(engine *e);

/* Whether a preprocessor ("canny low=50") has networks. */
bool engine_needs_weights(const char *kind);
/* Annotates by a preprocessor that is kept. */
cn_status engine_annotate(engine *e, const char *kind, int64_t resolution,
                          int64_t detect_resolution, const cn_image *in, cn_image **out);
/* The picture as PNG among the running job's results. */
cn_status engine_add_picture(engine *e, const cn_image *image, const char *const *text,
                             const char *parameters, bool drawn);
void engine_show(engine *e, const cn_image *image);

#endif
