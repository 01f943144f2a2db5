/* fuzz_dataset.c - lines of prompt.json and metadata.jsonl from bytes. */
#include "train/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cn_ctx *ctx = cn_ctx_create(1);
    if (!ctx) return 0;
    for (int layout = CN_DATASET_FILL50K; layout <= CN_DATASET_HUGGINGFACE; layout++) {
        cn_dataset_item item;
        if (cn_dataset_item_parse(ctx, (cn_dataset_layout)layout, "input:1", (const char *)data,
                                  size, &item) == CN_OK)
            cn_dataset_item_free(&item);
    }
    cn_ctx_destroy(ctx);
    return 0;
}
