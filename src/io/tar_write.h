/* SPDX-License-Identifier: Apache-2.0 */
/* tar_write.h - members of a tar file as bytes: POSIX ustar, owner and time 0, so that the same
 * members are the same bytes whoever writes them, and when. */
#ifndef CN_IO_TAR_WRITE_H
#define CN_IO_TAR_WRITE_H

#include "base/base.h"

enum { CN_TAR_BLOCK = 512, CN_TAR_NAME_BYTES = 100 };

/* Appends a regular file: its header, n bytes, zeros to a whole block. CN_EINVAL for a name of
 * CN_TAR_NAME_BYTES or more, or 8 GiB and more of data. */
cn_status cn_tar_add(cn_ctx *ctx, cn_str *tar, const char *name, const void *bytes,
                     size_t n) CN_CHECKED;
/* Appends a pax global header with a comment: readers pass over it, `tar --verbose` and a look at
 * the file's beginning show it. */
cn_status cn_tar_add_comment(cn_ctx *ctx, cn_str *tar, const char *text) CN_CHECKED;
/* Appends the two empty blocks that end a tar file. */
cn_status cn_tar_add_end(cn_ctx *ctx, cn_str *tar) CN_CHECKED;

#endif
