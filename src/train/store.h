/* store.h - numbered records of one size: in memory while they are few, else in a nameless file.
 *
 * Invariant: a record is written once, before it is read. The file has no name (it vanishes with the
 * process) and its room is reserved at creation, so a full disk shows before the work that fills it.
 */
#ifndef CN_TRAIN_STORE_H
#define CN_TRAIN_STORE_H

#include "base/base.h"

typedef struct cn_store cn_store;

/* n records of record_bytes; more than memory_limit_bytes in all go to a file in folder `dir`. */
cn_status cn_store_create(cn_ctx *ctx, int64_t n, size_t record_bytes, size_t memory_limit_bytes,
                          const char *dir, cn_store **out) CN_CHECKED;
void cn_store_destroy(cn_store *s);
cn_status cn_store_write(cn_store *s, int64_t i, const void *record) CN_CHECKED;
cn_status cn_store_read(cn_store *s, int64_t i, void *record) CN_CHECKED;
size_t cn_store_record_bytes(const cn_store *s);

#endif
