/* SPDX-License-Identifier: Apache-2.0 */
/* symtab.h - distinct byte strings, numbered from 0 in the order they were added.
 *
 * Invariant: string i lies at bytes + start[i], start[i + 1] - start[i] - 1 long and 0-terminated.
 * Both the tokenizer's vocabulary (number = token id) and the words of its trainer are kept in one.
 * Strings are never removed.
 */
#ifndef CN_MODEL_TEXT_SYMTAB_H
#define CN_MODEL_TEXT_SYMTAB_H

#include "base/base.h"

typedef struct cn_symtab {
    char *bytes;
    size_t bytes_len, bytes_cap;
    size_t *start; /* n + 1 entries are in use */
    int32_t n, start_cap;
    int32_t *slots; /* open addressing; -1 = free; a power of two of them */
    size_t n_slots;
} cn_symtab;

/* A zeroed cn_symtab is empty and valid. */
void cn_symtab_free(cn_symtab *t);
/* The number of the string, or -1. */
int32_t cn_symtab_find(const cn_symtab *t, const char *s, size_t n);
/* The number of the string, which is added when it is new; -1 with CN_ENOMEM's message. */
int32_t cn_symtab_add(cn_ctx *ctx, cn_symtab *t, const char *s, size_t n);
/* 0-terminated, owned by the table, valid until the next add. */
const char *cn_symtab_get(const cn_symtab *t, int32_t i, size_t *n);

#endif
