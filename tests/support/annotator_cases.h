/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_cases.h - checks a folder of ../shared/annotators' form against the annotators.
 *
 * Every file, size, threshold and number of cases comes from FOLDER/cases.json; paths in it are
 * relative to `root`. A failing case prints one line. tests/golden holds a small folder of the same
 * form.
 */
#ifndef TESTS_ANNOTATOR_CASES_H
#define TESTS_ANNOTATOR_CASES_H

#include "base/base.h"

typedef struct tally {
    int64_t passed, failed, skipped;
} tally;

/* Each reads root/FOLDER/cases.json; a file that can't be read counts as a failed case. */
void check_canny_folder(cn_ctx *ctx, const char *root, tally *t);
void check_resize_folder(cn_ctx *ctx, const char *root, tally *t);
void check_scribble_folder(cn_ctx *ctx, const char *root, tally *t);
void check_hed_folder(cn_ctx *ctx, const char *root, tally *t);
void check_midas_folder(cn_ctx *ctx, const char *root, tally *t);
void check_mlsd_folder(cn_ctx *ctx, const char *root, tally *t);
void check_pidinet_folder(cn_ctx *ctx, const char *root, tally *t);
void check_lineart_folder(cn_ctx *ctx, const char *root, tally *t);
void check_lineart_anime_folder(cn_ctx *ctx, const char *root, tally *t);
void check_openpose_folder(cn_ctx *ctx, const char *root, tally *t);
void check_uniformer_folder(cn_ctx *ctx, const char *root, tally *t);
/* ADE20K's label maps, COCO's masks and the pictures painted from them, DIODE's normals. */
void check_seg_folder(cn_ctx *ctx, const char *root, tally *t);

#endif
