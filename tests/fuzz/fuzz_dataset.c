/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_dataset.c - lines of prompt.json and metadata.jsonl, and records of metadata.csv, from
 * bytes. */
#include "io/csv.h"
#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cn_ctx *ctx = cn_ctx_create(1);
    if (!ctx) return 0;
    for (int fill50k = 0; fill50k <= 1; fill50k++) {
        cn_dataset_item item;
        if (cn_dataset_line_parse(ctx, fill50k, "input:1", (const char *)data, size, &item) ==
            CN_OK)
            cn_dataset_item_free(&item);
    }
    cn_csv_record record = {0};
    if (cn_csv_parse(ctx, "input:1", (const char *)data, size, &record) != CN_OK) record.n = 0;
    cn_csv_record_free(&record);
    cn_ctx_destroy(ctx);
    return 0;
}
