/* condition.h - which annotator made a data set's conditions, to turn drawings back into conditions. */
#ifndef CN_TRAIN_CONDITION_H
#define CN_TRAIN_CONDITION_H

#include "annotate/annotate.h"

/* text: "canny", "canny low=50 high=100", "none"; NULL: the line "condition ..." of dir/scenes.txt, else
 * canny when black_and_white. args->kind NULL: nothing to compare with. CN_EINVAL for an annotator or
 * option that isn't known, and for one whose conditions no edge measure compares. */
cn_status cn_condition_find(cn_ctx *ctx, const char *text, const char *dir, bool black_and_white,
                            cn_annotate_args *args) CN_CHECKED;
/* The text after "condition " in dir/scenes.txt, "" when there is no such file. */
cn_status cn_condition_text(cn_ctx *ctx, const char *dir, char out[256]) CN_CHECKED;
/* True when every one of the pixels is (nearly) black or white and both occur. */
bool cn_condition_black_and_white(const uint8_t *rgb, int64_t pixels);
/* out[i] = 255 where a channel is above the middle. */
void cn_condition_mask(const uint8_t *rgb, int64_t pixels, uint8_t *out);

#endif
