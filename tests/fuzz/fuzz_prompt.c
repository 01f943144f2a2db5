/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_prompt.c - prompts of any bytes: weights and stages. */
#include "diffuse/prompt.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cn_ctx *ctx = cn_ctx_create(1);
    char *text = ctx ? cn_alloc(ctx, n + 1) : NULL;
    cn_prompt_piece *pieces = NULL;
    cn_prompt_stage *stages = NULL;
    int count = 0;
    if (text) {
        memcpy(text, data, n);
        text[n] = 0;
        if (cn_prompt_weigh(ctx, text, &pieces, &count) == CN_OK)
            cn_prompt_pieces_free(pieces, count);
        if (cn_prompt_schedule(ctx, text, 7, n % 3 ? 0 : 5, &stages, &count) == CN_OK)
            cn_prompt_stages_free(stages, count);
    }
    cn_free(text);
    cn_ctx_destroy(ctx);
    return 0;
}
