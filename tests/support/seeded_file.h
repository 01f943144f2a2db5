/* SPDX-License-Identifier: Apache-2.0 */
/* seeded_file.h - a weight file whose values follow from tensors' names (cn_seed_tensor), from a
 * manifest. */
#ifndef TEST_SEEDED_FILE_H
#define TEST_SEEDED_FILE_H

#include "base/dtype.h"
#include "io/json.h"

/* Writes the manifest's "tensors" as safetensors. Hashed is an entry's "key", or its name, behind
 * the salt. */
cn_status seeded_file_write(cn_ctx *ctx, const json_t *manifest, const char *salt, cn_dtype dtype,
                            const char *path) CN_CHECKED;

#endif
