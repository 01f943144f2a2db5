/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the one thread that draws, annotates and trains, with what it keeps loaded. */
#ifndef CN_SERVER_ENGINE_H
#define CN_SERVER_ENGINE_H

#include "server/jobs.h"
#include "server/server.h"

enum { ENGINE_ANNOTATORS = 4 };

/* A preprocessor that stays open, the last used first. */
typedef struct engine_annotator {
    char *key; /* kind, settings, resolutions */
    cn_annotator *annotator;
} engine_annotator;

struct engine {
    const server_options *options;
    jobs *jobs;
    cn_ctx *ctx;
    cn_pipeline *pipeline;
    job *now; /* the running job, for callbacks */
    engine_annotator annotators[ENGINE_ANNOTATORS];
};

/* Opens the model; NULL with the reason in `why`. */
engine *engine_open(const server_options *options, jobs *q, char *why, size_t cap);
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
