/* SPDX-License-Identifier: Apache-2.0 */
/* pickle_internal.h - the unpickler's state, shared by its opcodes (pickle.c) and its calls
 * (pickle_call.c). */
#ifndef CN_IO_PICKLE_INTERNAL_H
#define CN_IO_PICKLE_INTERNAL_H

#include "io/pickle.h"

typedef struct pickle_block {
    struct pickle_block *next;
} pickle_block;

typedef struct pickle_stack {
    void **at;
    size_t n, cap;
} pickle_stack;

struct cn_pickle {
    cn_ctx *ctx;
    const unsigned char *p, *end;
    pickle_stack stack; /* cn_pickle_obj * */
    size_t *marks;      /* stack heights */
    size_t mark_count, mark_cap;
    cn_pickle_obj **memo;
    size_t memo_cap, memo_next;
    pickle_block *blocks; /* everything in the tree lies in these */
    unsigned char *free_at;
    size_t free_bytes, total_bytes;
    cn_pickle_obj *root;
    const cn_pickle_storage *storages;
};

/* NULL with a message when memory or the limit is used up. Zeroed. */
void *cn_pickle_alloc(cn_pickle *v, size_t n);
cn_pickle_obj *cn_pickle_new(cn_pickle *v, cn_pickle_kind kind);
cn_status cn_pickle_append(cn_pickle *v, cn_pickle_obj *o, cn_pickle_obj *item) CN_CHECKED;
cn_status cn_pickle_bad(cn_pickle *v, const char *what) CN_CHECKED;

/* The result of f(*args), CN_EFORMAT with f's name when it isn't one of the functions imitated. */
cn_status cn_pickle_call(cn_pickle *v, cn_pickle_obj *f, cn_pickle_obj *args,
                         cn_pickle_obj **out) CN_CHECKED;
/* ('storage', torch.FloatStorage, key, location, elements), and before torch 1.6 None or (key, 0,
 * elements) */
cn_status cn_pickle_storage_of(cn_pickle *v, const cn_pickle_obj *id,
                               cn_pickle_obj **out) CN_CHECKED;
/* "pickle calls os.system" */
cn_status cn_pickle_refuse(cn_pickle *v, const cn_pickle_obj *f) CN_CHECKED;

#endif
