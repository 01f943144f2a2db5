/* SPDX-License-Identifier: Apache-2.0 */
/* shard_writer.h - one WebDataset shard as it grows: written in order, gone on with after a kill.
 *
 *   DIR/00000.tar            the finished shard; its last file to appear
 *   DIR/00000.idx            NVIDIA DALI's index (v1.2): ending, data's place, bytes, name of each
 *                            member
 *   DIR/00000_stats.json     samples, and what was left out by reason
 *   DIR/00000.tar.partial    the shard until then, and a line for each entry that was dealt with:
 *   DIR/00000.journal        its place and CRC-32, or why it was left out
 *
 * An entry's bytes are written before its line, so that a killed process leaves a whole beginning:
 * what no line vouches for, or differs from its checksum (after power was lost), is cut off. One
 * process at a time has a shard.
 */
#ifndef CN_DATA_SHARD_WRITER_H
#define CN_DATA_SHARD_WRITER_H

#include "base/base.h"

enum { CN_SHARD_MEMBERS = 14, CN_SHARD_ENDING_BYTES = 48, CN_SHARD_REASONS = 16 };

/* One sample's members, KEY.ENDING each. */
typedef struct cn_shard_sample {
    char key[24];
    cn_str tar; /* whole blocks */
    int n;
    struct {
        char ending[CN_SHARD_ENDING_BYTES];
        size_t at, bytes; /* of the data in `tar` */
    } members[CN_SHARD_MEMBERS];
} cn_shard_sample;

cn_status cn_shard_sample_add(cn_ctx *ctx, cn_shard_sample *s, const char *ending,
                              const void *bytes, size_t n) CN_CHECKED;
void cn_shard_sample_free(cn_shard_sample *s);

/* What became of a shard's entries. */
typedef struct cn_shard_counts {
    int64_t entries, samples, bytes; /* bytes: of the tar file, while it grows without its end */
    int n_reasons;
    struct {
        char name[32];
        int64_t n;
    } reasons[CN_SHARD_REASONS];
} cn_shard_counts;

void cn_shard_count_reason(cn_shard_counts *c, const char *reason, int64_t n);

typedef struct cn_shard_writer cn_shard_writer;

/* Whether shard `number` is finished; its counts then. */
cn_status cn_shard_finished(cn_ctx *ctx, const char *dir, int64_t number, bool *finished,
                            cn_shard_counts *counts) CN_CHECKED;
/* Whether a run that was stopped left shard `number` begun. */
cn_status cn_shard_begun(cn_ctx *ctx, const char *dir, int64_t number, bool *begun) CN_CHECKED;
/* Begins a shard, or goes on with it. about: the tar file's comment, what it was made with. CN_EIO
 * where another process has it, or finished it meanwhile. */
cn_status cn_shard_open(cn_ctx *ctx, const char *dir, int64_t number, const char *about,
                        cn_shard_writer **out) CN_CHECKED;
/* What it holds so far: the next entry is number counts->entries of the shard. */
const cn_shard_counts *cn_shard_holds(const cn_shard_writer *w);
/* The next entry: a sample, or NULL and why there is none (a word; what happened, or ""). */
cn_status cn_shard_put(cn_ctx *ctx, cn_shard_writer *w, const cn_shard_sample *sample,
                       const char *reason, const char *text) CN_CHECKED;
/* Ends the tar file, writes index and counts, gives the shard its name. */
cn_status cn_shard_finish(cn_ctx *ctx, cn_shard_writer *w) CN_CHECKED;
/* What isn't finished stays for the next run. NULL is fine. */
void cn_shard_close(cn_shard_writer *w);

#endif
