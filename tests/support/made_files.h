/* SPDX-License-Identifier: Apache-2.0 */
/* made_files.h - files put together byte by byte, so that they may say what isn't so. Each function
 * fills `s`, which is empty before and freed by the caller. */
#ifndef TEST_MADE_FILES_H
#define TEST_MADE_FILES_H

#include "base/base.h"

/* A safetensors file with this header, which says it is header_bytes long, and data_bytes zeros (64
 * at most). */
void make_safetensors(cn_str *s, uint64_t header_bytes, const char *header, size_t data_bytes);
/* A PNG that says it is width x height, with right checksums and hardly any data. */
void make_png(cn_str *s, uint32_t width, uint32_t height);
/* A torch file, as torch.save makes it, with this pickle as its content. */
void make_torch_zip(cn_str *s, const char *pickle, size_t n);

#endif
