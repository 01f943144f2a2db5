/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.h - tells whole files from damaged ones (CRC-32, zlib's), and files from one another. */
#ifndef CN_IO_CHECKSUM_H
#define CN_IO_CHECKSUM_H

#include "base/base.h"

uint32_t cn_crc32(const void *bytes, size_t n);
/* Of what `crc` is of, followed by these. */
uint32_t cn_crc32_more(uint32_t crc, const void *bytes, size_t n);
/* Of a whole file, and its length. */
cn_status cn_file_crc32(cn_ctx *ctx, const char *path, int64_t *bytes, uint32_t *crc) CN_CHECKED;
/* Tells a file apart from others, and from itself after a change, without reading it: by its real
 * path, length and time of change. */
uint64_t cn_file_key(const char *path);

#endif
