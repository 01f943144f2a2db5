/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - see memory.h. */
#include "base/memory.h"

enum {
    RUN_BYTES = 6 << 20, /* 2 to 6 MB where measured */
    ENOUGH = 2
};

double cn_gib(size_t bytes)
{
    return (double)bytes / 1073741824.0;
}

size_t cn_process_bytes(void)
{
    return cn_resident_bytes() + RUN_BYTES;
}

bool cn_offers_enough(const cn_offers *o)
{
    return o->n >= ENOUGH;
}

void cn_offers_add(cn_offers *o, const char *option, size_t bytes)
{
    cn_str_addf(&o->text, "%s%s (%.2f GiB)", o->n++ ? " or " : "", option, cn_gib(bytes));
}

void cn_offers_free(cn_offers *o)
{
    cn_str_free(&o->text);
    o->n = 0;
}
