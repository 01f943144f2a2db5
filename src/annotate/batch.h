/* batch.h - many pictures to as many conditions: side by side, resumed where it was interrupted, a bad one named
 * and passed over.
 *
 * A record in the output folder (JSON lines) says with which settings which picture was made; its line comes
 * after the picture is in place. So what has a line under the same settings, its source unchanged, is kept, and
 * everything else is made. Pictures appear whole or not at all.
 */
#ifndef CN_ANNOTATE_BATCH_H
#define CN_ANNOTATE_BATCH_H

#include "base/base.h"
#include "io/image.h"

#include <jansson.h>

typedef enum cn_batch_state {
    CN_BATCH_TODO, /* not reached: the run was stopped */
    CN_BATCH_KEPT,
    CN_BATCH_MADE,
    CN_BATCH_FAILED
} cn_batch_state;

/* Names in one batch: what is read, and what is written, below the batch's folder. */
typedef struct cn_batch_item {
    char *in, *out; /* a path; a name with '/' between folders */
} cn_batch_item;

typedef struct cn_batch {
    const char *dir, *record; /* a folder, made when missing; the record's name in it */
    const char *settings;     /* everything that the pictures depend on, in words */
    const cn_batch_item *items;
    int64_t n;
    bool
        together; /* several at a time, one thread each; else one after another, each with all threads */
    /* Makes item i. `note` is an object for the record's line: what was drawn by chance, say. */
    cn_status (*make)(void *user, cn_ctx *ctx, int64_t i, json_t *note, cn_image **out);
    void *user;
    void (*progress)(void *user, int64_t done, int64_t total); /* of what is to be made; NULL */
    void (*problem)(void *user, const char *text);             /* one a picture that failed; NULL */
    void *told;                                                /* given to both */
} cn_batch;

typedef struct cn_batch_result {
    int64_t made, kept, failed;
} cn_batch_result;

/* states (may be NULL): [n]. Pictures that fail don't make it fail; what does is a folder or record that can't be
 * written, memory, and cn_cancel (CN_ECANCELLED). *out is filled in any case. */
cn_status cn_batch_run(cn_ctx *ctx, const cn_batch *b, uint8_t *states,
                       cn_batch_result *out) CN_CHECKED;

#endif
