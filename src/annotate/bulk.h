/* SPDX-License-Identifier: Apache-2.0 */
/* bulk.h - many pictures to as many conditions: side by side, resumed where it was interrupted, a
 * bad one named and passed over.
 *
 * A record in the output folder (JSON lines) says with which settings which picture was made; its
 * line comes after the picture is in place. So what has a line under the same settings, its source
 * unchanged, is kept, and everything else is made. Pictures appear whole or not at all.
 */
#ifndef CN_ANNOTATE_BULK_H
#define CN_ANNOTATE_BULK_H

#include "base/base.h"
#include "image/image.h"

#include <jansson.h>

typedef enum cn_bulk_state {
    CN_BULK_TODO, /* not reached: the run was stopped */
    CN_BULK_KEPT,
    CN_BULK_MADE,
    CN_BULK_FAILED
} cn_bulk_state;

/* What is read and what is written. */
typedef struct cn_bulk_item {
    char *in, *out; /* a path; a name below the run's folder, '/' between folders */
} cn_bulk_item;

/* Copies of both. */
cn_status cn_bulk_item_set(cn_ctx *ctx, cn_bulk_item *item, const char *in,
                           const char *out) CN_CHECKED;
/* n items and the array; NULL is fine. */
void cn_bulk_items_free(cn_bulk_item *items, int64_t n);

typedef struct cn_bulk {
    const char *dir, *record; /* a folder, made when missing; the record's name in it */
    const char *settings;     /* everything that the pictures depend on, in words */
    const cn_bulk_item *items;
    int64_t n;
    bool together; /* several at a time, one thread each; else one after another, each with all
                      threads */
    /* Makes item i. `note` is an object for the record's line: what was drawn by chance, say. NULL:
     * files are copied as they are. */
    cn_status (*make)(void *user, cn_ctx *ctx, int64_t i, json_t *note, cn_image **out);
    void *user;
    void (*progress)(void *user, int64_t done, int64_t total); /* of what is to be made; NULL */
    void (*problem)(void *user, const char *text);             /* one a picture that failed; NULL */
    void *told;                                                /* given to both */
} cn_bulk;

typedef struct cn_bulk_result {
    int64_t made, kept, failed;
} cn_bulk_result;

/* states (may be NULL): [n]. Pictures that fail don't make it fail; what does is a folder or record
 * that can't be written, memory, and cn_cancel (CN_ECANCELLED). *out is filled in any case. */
cn_status cn_bulk_run(cn_ctx *ctx, const cn_bulk *b, uint8_t *states,
                      cn_bulk_result *out) CN_CHECKED;

#endif
