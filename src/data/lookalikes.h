/* SPDX-License-Identifier: Apache-2.0 */
/* lookalikes.h - which of many pictures look like an earlier one, by perceptual hashes (phash.h).
 *
 * Memory: 16 bytes a hash, those of the hashes and the result counted. Time: of four parts of 16
 * bits near hashes have one that differs in a bit at most, so each is compared with those that have
 * such a part, some thousand of a million hashes that differ (60, where less than 4 bits are
 * allowed).
 */
#ifndef CN_DATA_LOOKALIKES_H
#define CN_DATA_LOOKALIKES_H

#include "base/base.h"

/* The most bits that may differ; those of pictures that were saved as JPEG again, or shrunk. */
enum { CN_LOOKALIKE_MAX_BITS = 7, CN_LOOKALIKE_NEAR_BITS = 5 };

/* earlier[i]: the lowest j < i whose hash differs from number i's in at most `bits`; -1: there is
 * none. Hashes with valid[i] == 0 look like no other; valid may be NULL. n below 2^31. */
cn_status cn_lookalikes_find(cn_ctx *ctx, const uint64_t *hashes, const uint8_t *valid, int64_t n,
                             int bits, int32_t *earlier) CN_CHECKED;

#endif
