/* SPDX-License-Identifier: Apache-2.0 */
/* conditions_internal.h - how the conditions of many pictures are made: one kind of annotator or
 * several behind each other, with what chance decides picture by picture. Only src/pipeline
 * includes it. */
#ifndef CN_PIPELINE_CONDITIONS_INTERNAL_H
#define CN_PIPELINE_CONDITIONS_INTERNAL_H

#include "annotate/annotate.h"
#include "data/coco.h"

#include <jansson.h>

typedef struct cn_condition {
    cn_annotate_args links[CN_ANNOTATE_LINKS];
    cn_session *sessions[CN_ANNOTATE_LINKS]; /* of links with networks, else NULL */
    int n;
    cn_annotate_folder_options o; /* texts are borrowed */
    cn_backend *backend;          /* NULL without networks */
    cn_str settings;              /* everything that pictures depend on, in words */
} cn_condition;

/* text: "canny low=50", or kinds that each take what the one before made: "hed |
 * scribble_synthesis". Settings, resolutions and pixel perfect of `o` belong to the first; a kind
 * with networks takes those of the weights that are its own. */
cn_status cn_condition_open(cn_ctx *ctx, const char *text, const cn_annotate_folder_options *o,
                            cn_condition *out) CN_CHECKED;
void cn_condition_close(cn_condition *c);
/* Where no kind has a network: CN_EINVAL for another device than the CPU. */
cn_status cn_condition_refuse_device(cn_ctx *ctx, const cn_kind *kind,
                                     const char *device) CN_CHECKED;
/* Without networks, pictures can be made side by side, each in a context of its own. */
bool cn_condition_side_by_side(const cn_condition *c);

/* One of: a file of what the first kind takes; picture `picture` of `coco`; a picture. */
typedef struct cn_condition_input {
    const char *path;
    const cn_coco *coco;
    int64_t picture;
    const cn_image *image;
    const char *name; /* decides with the seed what chance draws */
} cn_condition_input;

/* Brings a condition to its picture's size; labels without mixing neighbours. */
cn_status cn_condition_match(cn_ctx *ctx, int64_t width, int64_t height, bool labelled,
                             cn_image **condition) CN_CHECKED;
/* What chance drew goes into `note`. */
cn_status cn_condition_make(const cn_condition *c, cn_ctx *ctx, const cn_condition_input *in,
                            json_t *note, cn_image **out) CN_CHECKED;

#endif
