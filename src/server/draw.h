/* SPDX-License-Identifier: Apache-2.0 */
/* draw.h - the jobs: drawings and condition pictures, from their JSON to their results.
 *
 * All interfaces (own, stable-diffusion-webui's, OpenAI's) come to the same JSON, so that one
 * reader checks them.
 */
#ifndef CN_SERVER_DRAW_H
#define CN_SERVER_DRAW_H

#include "server/engine.h"
#include "server/models.h"
#include "server/options_json.h"
#include "server/sha256.h"

enum { DRAW_CONTROLS = 8, DRAW_WEIGHTS = 64, DRAW_TOGETHER = 64 };

/* What requests are read by. */
typedef struct draw_reader {
    const server_options *options;
    models *models;
} draw_reader;

typedef struct draw_control {
    char *path;
    cn_image *image, *mask;
    float weights[DRAW_WEIGHTS];
    int64_t resolution; /* that the preprocessor works at; 0: the picture's size */
    const char *preprocessor_weights[2];
} draw_control;

typedef struct draw_work {
    char *model; /* path of the base model */
    cn_generate_options o;
    cn_control_options controls[DRAW_CONTROLS];
    draw_control own[DRAW_CONTROLS];
    int n_controls;
    cn_image *init, *mask, *reference;
    int iterations;
    bool can_share;            /* may be drawn together with equal ones: from noise, one picture */
    uint8_t key[SHA256_BYTES]; /* of all but the seed */
    char *recipe;              /* the request as it goes into the picture; NULL: it doesn't */
} draw_work;

extern const job_kind draw_job, annotate_job, train_job;

/* Reads a request of either kind; NULL with `why`. The seed that was chosen is put into the
 * request. The work's texts are the request's. */
void *draw_read(const draw_reader *r, json_t *request, char why[WHY_BYTES]);
void *annotate_read(const draw_reader *r, json_t *request, char why[WHY_BYTES]);
void *train_read(const draw_reader *r, json_t *request, char why[WHY_BYTES]);
/* By "type", "generate" where it is absent. *kind: set on success. */
void *job_read(const draw_reader *r, json_t *request, const job_kind **kind, char why[WHY_BYTES]);

/* The path of the base model that a request names or, where it names none, of the one that is
 * chosen now, which is put into the request; in new memory (free). NULL with `why`. */
char *draw_find_model(const draw_reader *r, json_t *request, char why[WHY_BYTES]);
/* Whether a preprocessor can be had: its kind is known, and its networks are there. */
bool draw_check_preprocessor(const draw_reader *r, const char *kind, char why[WHY_BYTES]);

/* The member that names the base model, as options_extra.schema. */
#define DRAW_MODEL_SCHEMA \
    "{\"type\":[\"string\",\"null\"],\"description\":\"a base model of /v1/base-models\"}"
/* Schemas of the requests. */
json_t *draw_schema(void);
json_t *annotate_schema(void);
json_t *train_schema(void);

#endif
