/* SPDX-License-Identifier: Apache-2.0 */
/* pickle.h - a pickle that may hold only tensors and plain containers, as a tree.
 *
 * Nothing is imported and nothing is called: the few functions that torch.save needs are imitated
 * here, and a call of any other is CN_EFORMAT with its name. A name that is only mentioned (a class
 * as a dict's key, as pytorch_lightning writes it) stays a mention. Objects may be shared and lists
 * may hold themselves, so a walk over the tree needs its own limits. Time and memory are linear in
 * the pickle's length.
 */
#ifndef CN_IO_PICKLE_H
#define CN_IO_PICKLE_H

#include "base/base.h"
#include "base/dtype.h"

typedef enum cn_pickle_kind {
    CN_PK_NONE,
    CN_PK_BOOL,
    CN_PK_INT,
    CN_PK_FLOAT,
    CN_PK_STR,
    CN_PK_TUPLE,
    CN_PK_LIST,
    CN_PK_DICT,   /* items: key, value, key, value, ... */
    CN_PK_GLOBAL, /* items: module, name (both strings) */
    CN_PK_STORAGE,
    CN_PK_TENSOR,
    CN_PK_INERT /* something harmless without use here: bytes, a set, a numpy scalar */
} cn_pickle_kind;

typedef struct cn_pickle_obj cn_pickle_obj;

typedef struct cn_pickle_storage {
    cn_dtype dtype;  /* CN_DTYPE_COUNT: a type not known here */
    const char *key; /* the zip entry under data/ */
    size_t key_len;
    int64_t elements;
    const struct cn_pickle_storage *next; /* of all that the pickle mentions */
} cn_pickle_storage;

typedef struct cn_pickle_tensor {
    const cn_pickle_storage *storage;
    int64_t offset; /* in elements, >= 0 */
    int ndim;
    int64_t shape[CN_MAX_DIMS], stride[CN_MAX_DIMS]; /* >= 0 */
    bool supported; /* false: too many dimensions or an unknown type; the fields above are unset */
} cn_pickle_tensor;

struct cn_pickle_obj {
    cn_pickle_kind kind;
    uint32_t cap; /* allocated items */
    size_t n;     /* items, or bytes of the string */
    union {
        int64_t i; /* also a bool */
        double f;
        const char *s; /* points into the pickle */
        cn_pickle_obj **items;
        cn_pickle_storage *storage;
        cn_pickle_tensor *tensor;
    } u;
};

typedef struct cn_pickle cn_pickle;

/* The bytes must outlive *out, which owns the tree. *used (may be NULL): how many of them the
 * pickle has. */
cn_status cn_pickle_parse(cn_ctx *ctx, const unsigned char *bytes, size_t n, cn_pickle **out,
                          size_t *used) CN_CHECKED;
const cn_pickle_obj *cn_pickle_root(const cn_pickle *p);
/* One storage that it mentions, NULL for none; their `next` leads to the others. The same may come
 * again. */
const cn_pickle_storage *cn_pickle_storages(const cn_pickle *p);
void cn_pickle_destroy(cn_pickle *p);

bool cn_pickle_is_str(const cn_pickle_obj *o, const char *text);

#endif
