/* SPDX-License-Identifier: Apache-2.0 */
/* captions.h - what the pictures of a folder are called, wherever that is written. */
#ifndef CN_DATA_CAPTIONS_H
#define CN_DATA_CAPTIONS_H

#include "base/base.h"

typedef struct cn_captions cn_captions;

/* Captions of the pictures in `dir`, from the first of these that there is:
 *   coco                a captions_*.json (NULL: none)
 *   dir/metadata.jsonl  lines of "file_name" or "image", and "text", "caption" or "prompt"
 *   dir/metadata.csv    the same columns
 *   beside the picture  STEM.txt or STEM.caption
 * A picture without one has `otherwise`. */
cn_status cn_captions_open(cn_ctx *ctx, const char *dir, const char *coco, const char *otherwise,
                           cn_captions **out) CN_CHECKED;
void cn_captions_close(cn_captions *c);
/* Captions of the picture `name` (relative to dir), at least 1; more than one from COCO only. */
int64_t cn_captions_count(const cn_captions *c, const char *name);
/* Caption k (*text: cn_free it); *found: it isn't `otherwise`. Any number of threads. */
cn_status cn_captions_get(cn_ctx *ctx, const cn_captions *c, const char *name, int64_t k,
                          char **text, bool *found) CN_CHECKED;

#endif
