/* dataset.h - a folder of training pairs as an index: condition, target, prompt.
 *
 * Two layouts, told by the file that lists the pairs: Fill50K's prompt.json (JSON lines {"source",
 * "target", "prompt"}) and Hugging Face's metadata.jsonl ({"image" or "file_name",
 * "conditioning_image", "text"}). Paths count from the folder. Opening looks at every line and at every
 * file's presence, so training never starts on a list with holes; pictures are decoded later.
 */
#ifndef CN_TRAIN_DATASET_H
#define CN_TRAIN_DATASET_H

#include "base/base.h"
#include "io/image.h"

typedef enum cn_dataset_layout { CN_DATASET_FILL50K, CN_DATASET_HUGGINGFACE } cn_dataset_layout;

typedef struct cn_dataset_item {
    char *condition, *target; /* relative to the folder, or absolute */
    char *prompt;
    int64_t line; /* of the list, from 1 */
} cn_dataset_item;

typedef struct cn_dataset {
    cn_ctx *ctx;
    char dir[4096], list[4096]; /* list: the file of lines */
    cn_dataset_layout layout;
    cn_dataset_item *items;
    int64_t n, cap;
} cn_dataset;

/* What was wrong with one line or pair; `text` starts with "LIST:LINE: ". */
typedef void (*cn_dataset_problem)(void *user, const char *text);

/* One line's JSON to an item (strings of its own, cn_dataset_item_free). `where` names it in errors. */
cn_status cn_dataset_item_parse(cn_ctx *ctx, cn_dataset_layout layout, const char *where,
                                const char *json, size_t n, cn_dataset_item *out) CN_CHECKED;
void cn_dataset_item_free(cn_dataset_item *item);

/* problem, when given, is told every fault; the status is CN_EFORMAT with the first one and how many
 * more there are. */
cn_status cn_dataset_open(cn_ctx *ctx, const char *dir, cn_dataset_problem problem, void *user,
                          cn_dataset **out) CN_CHECKED;
void cn_dataset_close(cn_dataset *d);

/* One pair's pictures, width x height (aspect kept, centre cropped) or as they are when width is 0.
 * Either output may be NULL. The list's line is named in errors. */
cn_status cn_dataset_load(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                          int64_t height, cn_image **condition, cn_image **target) CN_CHECKED;

#endif
