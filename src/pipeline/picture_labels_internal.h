/* SPDX-License-Identifier: Apache-2.0 */
/* picture_labels_internal.h - where the labels of a folder's pictures are, for kinds that are made
 * from them: COCO's instances, ADE20K's label maps, DIODE's arrays. Only src/pipeline includes
 * it. */
#ifndef CN_PIPELINE_PICTURE_LABELS_INTERNAL_H
#define CN_PIPELINE_PICTURE_LABELS_INTERNAL_H

#include "pipeline/conditions_internal.h"

typedef struct cn_labels {
    char path[CN_PATH_BYTES]; /* "" for kinds that look at the picture itself */
    cn_coco *coco;            /* opened by cn_labels_open; NULL for other kinds */
} cn_labels;

/* COCO's files: PHOTOS is ROOT/train2017, say, then ROOT/annotations/WHAT_train2017.json. "" where
 * there is none. */
cn_status cn_labels_find_coco(cn_ctx *ctx, const char *photos, const char *what,
                              char out[CN_PATH_BYTES]) CN_CHECKED;
/* Where the kind's labels of the pictures in `photos` (a real path) are; given: where they are said
 * to be, or NULL. */
cn_status cn_labels_find(cn_ctx *ctx, const cn_kind *kind, const char *photos, const char *given,
                         cn_labels *out) CN_CHECKED;
/* Opens what is read once. */
cn_status cn_labels_open(cn_ctx *ctx, const cn_kind *kind, cn_labels *l) CN_CHECKED;
void cn_labels_close(cn_labels *l);
/* Fills in where a picture's labels are; name: within the folder; path: room for a name that `in`
 * points to. CN_EFORMAT where the picture has none. */
cn_status cn_labels_input(cn_ctx *ctx, const cn_labels *l, const cn_kind *kind, const char *name,
                          char path[CN_PATH_BYTES], cn_condition_input *in) CN_CHECKED;

#endif
