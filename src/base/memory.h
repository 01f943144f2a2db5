/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - what plans of memory have in common: the process itself, and saying what would fit. */
#ifndef CN_MEMORY_H
#define CN_MEMORY_H

#include "base/base.h"

double cn_gib(size_t bytes);
/* What the process has now and what threads, generated code and files add while it runs. */
size_t cn_process_bytes(void);

/* The first few options under which something fits, as words: "--a (1.20 GiB) or --b (1.00
 * GiB)". */
typedef struct cn_offers {
    cn_str text;
    int n;
} cn_offers;

/* Enough for a message; further ones needn't be tried. */
bool cn_offers_enough(const cn_offers *o);
void cn_offers_add(cn_offers *o, const char *option, size_t bytes);
void cn_offers_free(cn_offers *o);

#endif
