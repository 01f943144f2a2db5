/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a torch zip checkpoint; and as the pickle inside one, so that the fuzzer needn't
 * find out how a zip file is built before it reaches the unpickler. */
#include "io/pickle.h"
#include "io/tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_all(cn_ctx *ctx, const cn_tensors *t)
{
    enum { MAX_READ = 1 << 20 };
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        float *out =
            info->elements <= MAX_READ ? cn_alloc(ctx, (size_t)info->elements * 4 + 4) : NULL;
        if (out && cn_tensors_read(ctx, t, info, out) != CN_OK) __builtin_trap();
        cn_free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cn_ctx *ctx = cn_ctx_create(1);
    cn_tensors *t = NULL;
    cn_pickle *p = NULL;
    if (ctx && cn_tensors_open_memory(ctx, data, n, &t) == CN_OK) {
        read_all(ctx, t);
        cn_tensors_close(t);
    }
    if (ctx && cn_pickle_parse(ctx, data, n, &p, NULL) == CN_OK) cn_pickle_destroy(p);
    cn_ctx_destroy(ctx);
    return 0;
}
