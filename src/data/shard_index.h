/* SPDX-License-Identifier: Apache-2.0 */
/* shard_index.h - the members of a tar shard by the index beside it, NAME.idx for NAME.tar, in
 * NVIDIA DALI's form (v1.2): a line of ENDING PLACE BYTES NAME for each sample. It takes a read of
 * some hundred bytes a sample where the tar file takes one for each member. */
#ifndef CN_DATA_SHARD_INDEX_H
#define CN_DATA_SHARD_INDEX_H

#include "io/tar.h"

/* As cn_tar_scan; *used false, and nothing visited, where there is no index or it isn't this tar
 * file's: its members would lie beyond the end, or something else lies at its first and last. */
cn_status cn_shard_index_scan(cn_ctx *ctx, const char *tar,
                              cn_status (*visit)(void *user, const cn_tar_entry *entry), void *user,
                              bool *used) CN_CHECKED;

#endif
