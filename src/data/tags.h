/* SPDX-License-Identifier: Apache-2.0 */
/* tags.h - captions that are lists of tags, varied by chance from sample to sample.
 *
 * As process_caption of kohya's sd-scripts (library/train_util.py) does it: the caption is cut at
 * the separator, the tags behind the kept ones are shuffled, then each of them is left out by
 * chance, and all are joined by ", ". Kept are the first `keep`, or, in a caption that has
 * keep_separator, those before it and those behind a second one. Empty tags, which it leaves out in
 * the latter case alone, are always left out here.
 */
#ifndef CN_DATA_TAGS_H
#define CN_DATA_TAGS_H

#include "base/base.h"

typedef struct cn_tag_rules {
    bool shuffle;
    double dropout; /* how likely a tag is left out, 0 to 1 */
    int64_t keep;
    const char *keep_separator; /* NULL: none */
    const char *separator;      /* not empty */
} cn_tag_rules;

/* Whether captions are tags at all; otherwise they stay as they are. */
bool cn_tags_vary(const cn_tag_rules *r);
/* The caption as the generator would have it; rng NULL: all its tags in their order. Appended to
 * out. */
cn_status cn_tags_write(cn_ctx *ctx, const cn_tag_rules *r, const char *caption, cn_rng *rng,
                        cn_str *out) CN_CHECKED;

#endif
