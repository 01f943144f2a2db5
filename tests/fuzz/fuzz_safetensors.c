/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a safetensors file: opened, every tensor read. */
#include "io/tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum { MAX_READ = 1 << 20 };
    cn_ctx *ctx = cn_ctx_create(1);
    cn_tensors *t = NULL;
    if (ctx && cn_tensors_open_memory(ctx, data, n, &t) == CN_OK) {
        for (int64_t i = 0; i < cn_tensors_count(t); i++) {
            const cn_tensor_info *info = cn_tensors_at(t, i);
            float *out =
                info->elements <= MAX_READ ? cn_alloc(ctx, (size_t)info->elements * 4 + 4) : NULL;
            if (out && cn_tensors_read(ctx, t, info, out) != CN_OK) __builtin_trap();
            cn_free(out);
            if (cn_tensors_find(t, info->name) != info) __builtin_trap();
        }
        (void)cn_tensors_metadata(t, "format");
        cn_tensors_close(t);
    }
    cn_ctx_destroy(ctx);
    return 0;
}
