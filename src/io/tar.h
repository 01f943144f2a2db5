/* SPDX-License-Identifier: Apache-2.0 */
/* tar.h - members of uncompressed tar files, listed once and then read by their place.
 *
 * Reading is libarchive's, so GNU, pax and ustar headers with long names work. A compressed tar has
 * no places to read at and is refused by name.
 */
#ifndef CN_IO_TAR_H
#define CN_IO_TAR_H

#include "base/base.h"

/* A regular file in the tar; position: where its headers begin. */
typedef struct cn_tar_entry {
    const char *name;
    int64_t position, bytes;
} cn_tar_entry;

/* Calls `visit` for every regular file in the tar's order, until it returns another status than
 * CN_OK. */
cn_status cn_tar_scan(cn_ctx *ctx, const char *path,
                      cn_status (*visit)(void *user, const cn_tar_entry *entry),
                      void *user) CN_CHECKED;
/* The member that begins at `position`: *data (0-terminated, not counted; cn_free) and, unless
 * NULL, its *name (cn_free). Safe to call from several threads. */
cn_status cn_tar_read(cn_ctx *ctx, const char *path, int64_t position, size_t max_bytes,
                      char **name, char **data, size_t *n) CN_CHECKED;

/* Its first max_bytes, or all of it where it is shorter. */
cn_status cn_tar_read_head(cn_ctx *ctx, const char *path, int64_t position, size_t max_bytes,
                           char **data, size_t *n) CN_CHECKED;

#endif
