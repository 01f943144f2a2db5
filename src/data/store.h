/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - numbered records of one size: in memory while they are few, in a nameless file, or in a
 * file that later runs find again.
 *
 * A record is written once, before it is read. Of the nameless file (it vanishes with the process)
 * all room is reserved at creation, so that a full disk shows before the work that fills it.
 *
 * The file that stays is a head and slots of [key, CRC-32, record]; a record belongs to whoever
 * asks for its key. Each is appended whole under a lock, so several processes may fill one file;
 * what a killed one left torn at the end is cut off. A file that was changed since it was last
 * looked through is read whole when it is opened: a damaged slot counts as absent, and its place is
 * taken again. Else a note beside it says what it holds (store_index.c).
 */
#ifndef CN_DATA_STORE_H
#define CN_DATA_STORE_H

#include "base/base.h"

typedef struct cn_store cn_store;

/* n records of record_bytes; more than memory_limit_bytes in all go to a nameless file in folder
 * `dir`. */
cn_status cn_store_create(cn_ctx *ctx, int64_t n, size_t record_bytes, size_t memory_limit_bytes,
                          const char *dir, cn_store **out) CN_CHECKED;

typedef struct cn_store_file {
    const char *path;  /* made when missing */
    uint64_t identity; /* of what the records come from; a file with another one is refused */
    size_t record_bytes;
    int64_t n;
    uint64_t *keys; /* [n] of records 0..n-1; taken over: cn_alloc'd */
    /* NULL, or told while slots are read. */
    void (*progress)(void *user, const char *what, int64_t done, int64_t total);
    void *progress_user;
} cn_store_file;

/* The records of a file that stays. file->keys is the store's also after a failure. */
cn_status cn_store_open(cn_ctx *ctx, const cn_store_file *file, cn_store **out) CN_CHECKED;
void cn_store_destroy(cn_store *s);

/* Whether record i is there; whether it was, but damaged. */
bool cn_store_has(const cn_store *s, int64_t i);
bool cn_store_damaged(const cn_store *s, int64_t i);
/* Looks for records that other processes added since. */
cn_status cn_store_refresh(cn_store *s) CN_CHECKED;
/* Records i differ between threads; writing is for one thread at a time. */
cn_status cn_store_write(cn_store *s, int64_t i, const void *record) CN_CHECKED;
/* ctx is the caller's, for its message; CN_EFORMAT when a file's record was damaged since it was
 * opened. */
cn_status cn_store_read(const cn_store *s, cn_ctx *ctx, int64_t i, void *record) CN_CHECKED;
size_t cn_store_record_bytes(const cn_store *s);
/* Memory that a store of n records takes beside a file's. */
size_t cn_store_index_bytes(int64_t n);

#endif
