/* store_internal.h - what store.c and store_file.c share. */
#ifndef CN_TRAIN_STORE_INTERNAL_H
#define CN_TRAIN_STORE_INTERNAL_H

#include "train/store.h"

/* slots[i]: the record's slot; CN_SLOT_ABSENT; or, damaged in slot k, CN_SLOT_ABSENT - 1 - k. */
enum { CN_SLOT_ABSENT = -1 };

struct cn_store {
    cn_ctx *ctx;
    int64_t n;
    size_t record_bytes;
    bool *has;      /* [n]; NULL: a file that stays */
    char *memory;   /* NULL: in the file */
    int64_t *slots; /* [n] of a file that stays */
    uint64_t *keys; /* [n] */
    int fd;
    char path[4096]; /* of the folder, or of the file that stays */
};

cn_status cn_store_fail(cn_ctx *ctx, const cn_store *s, const char *what, int error);
cn_status cn_store_write_at(cn_store *s, const void *bytes, size_t n, int64_t at) CN_CHECKED;
cn_status cn_store_read_at(const cn_store *s, cn_ctx *ctx, void *bytes, size_t n,
                           int64_t at) CN_CHECKED;
cn_status cn_store_append(cn_store *s, int64_t i, const void *record) CN_CHECKED;
cn_status cn_store_read_slot(const cn_store *s, cn_ctx *ctx, int64_t i, void *record) CN_CHECKED;

#endif
