/* checksum.h - CRC-32 (zlib's) of files and bytes: tells a whole file from a damaged one. */
#ifndef CN_IO_CHECKSUM_H
#define CN_IO_CHECKSUM_H

#include "base/base.h"

uint32_t cn_crc32(const void *bytes, size_t n);
/* Of a whole file, and its length. */
cn_status cn_file_crc32(cn_ctx *ctx, const char *path, int64_t *bytes, uint32_t *crc) CN_CHECKED;

#endif
