/* SPDX-License-Identifier: Apache-2.0 */
/* annotators.c - every case of a folder of ../shared/annotators' form: `annotators DIR`.
 *
 * A line per failing case, a line per folder that has no annotator here, and the counts at the end.
 * Exit status 1 when a case failed or none was found, 2 for wrong usage.
 */
#include "../support/annotator_cases.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *folder;
    void (*check)(cn_ctx *ctx, const char *root, tally *t);
} checks[] = {
    {"canny", check_canny_folder},         {"hed", check_hed_folder},
    {"lineart", check_lineart_folder},     {"lineart_anime", check_lineart_anime_folder},
    {"mlsd", check_mlsd_folder},           {"pidinet", check_pidinet_folder},
    {"resize", check_resize_folder},       {"scribble", check_scribble_folder},
    {"midas", check_midas_folder},         {"openpose", check_openpose_folder},
    {"uniformer", check_uniformer_folder}, {"seg", check_seg_folder},
};

static void check_folder(cn_ctx *ctx, const char *root, const char *folder, tally *t)
{
    char path[4096];
    if (cn_format(ctx, path, sizeof path, "%s/%s/cases.json", root, folder) != CN_OK ||
        !cn_file_exists(path))
        return;
    for (size_t i = 0; i < CN_COUNT(checks); i++)
        if (strcmp(checks[i].folder, folder) == 0) {
            tally before = *t;
            checks[i].check(ctx, root, t);
            printf("%s: %lld passed, %lld failed\n", folder, (long long)(t->passed - before.passed),
                   (long long)(t->failed - before.failed));
            return;
        }
    t->skipped++;
    printf("SKIP %s: no annotator of this name\n", folder);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: annotators DIR (a folder with canny/cases.json and the like)\n");
        return 2;
    }
    struct dirent **list;
    int n = scandir(argv[1], &list, NULL, alphasort);
    if (n < 0) {
        fprintf(stderr, "annotators: %s can't be read\n", argv[1]);
        return 2;
    }
    cn_ctx *ctx = cn_ctx_create(0);
    tally t = {0};
    for (int i = 0; i < n; i++) {
        if (ctx && list[i]->d_name[0] != '.') check_folder(ctx, argv[1], list[i]->d_name, &t);
        free(list[i]);
    }
    free(list);
    cn_ctx_destroy(ctx);
    printf("%lld passed, %lld failed, %lld skipped\n", (long long)t.passed, (long long)t.failed,
           (long long)t.skipped);
    return t.failed || !t.passed;
}
