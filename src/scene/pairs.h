/* SPDX-License-Identifier: Apache-2.0 */
/* pairs.h - drawn training pairs as a folder in Fill50K's layout, whatever is drawn.
 *
 *   DIR/source/N.png   the condition        DIR/prompt.json   JSON lines {"source", "target",
 *                      "prompt"}
 *   DIR/target/N.png   the picture          DIR/scenes.txt    what the folder was made with
 */
#ifndef CN_SCENE_PAIRS_H
#define CN_SCENE_PAIRS_H

#include "base/base.h"
#include "image/image.h"

enum { CN_CAPTION_BYTES = 256 };

typedef struct cn_pairs {
    const char *what; /* "scenes": first word of scenes.txt and of errors */
    int version;      /* of what (seed, index) stands for; a folder of another one is refused */
    const char *dir;  /* created when missing */
    int64_t n, first_index;
    uint64_t seed;
    int64_t size_px;
    const char *condition; /* as scenes.txt names it */
    /* Pair `index` by (seed, index) alone; pictures of size_px are allocated. Called on several
     * threads, unless it is to be alone and uses all of them itself. */
    bool alone;
    cn_status (*draw)(const void *user, cn_ctx *ctx, int64_t index, cn_image *picture,
                      cn_image *condition);
    /* Plain letters, commas and blanks: nothing in a caption needs JSON's escapes. */
    void (*caption)(const void *user, int64_t index, char *out, size_t cap);
    const void *user;
    void (*progress)(void *user, int64_t done, int64_t total); /* NULL; one call at a time */
    void *progress_user;
} cn_pairs;

/* Pictures that are there already are kept, so that an interrupted call goes on; a folder made with
 * other settings is refused (CN_EMISMATCH). prompt.json comes last and lists this call's range. */
cn_status cn_pairs_write(cn_ctx *ctx, const cn_pairs *pairs) CN_CHECKED;

#endif
