/* SPDX-License-Identifier: Apache-2.0 */
/* listing.h - the files of a folder by their endings, in one order on every machine. */
#ifndef CN_IO_LISTING_H
#define CN_IO_LISTING_H

#include "base/base.h"

typedef struct cn_listing {
    cn_str text;  /* the names, each 0-terminated */
    char **names; /* relative to the folder, '/' between folders */
    int64_t n, cap;
} cn_listing;

typedef struct cn_listing_rules {
    const char *const *endings; /* ".png", ..., NULL at the end; case doesn't count */
    bool recursive;             /* folders in the folder too */
    const char *except;         /* a folder that isn't entered (what is made there); NULL */
} cn_listing_rules;

/* Of every format that src/image reads. */
extern const char *const cn_picture_endings[];

/* Sorted by their names without ending, then with. Hidden files and folders are passed over. */
cn_status cn_listing_read(cn_ctx *ctx, const char *dir, const cn_listing_rules *rules,
                          cn_listing *out) CN_CHECKED;
void cn_listing_free(cn_listing *l);
/* Whether a name ends in one of them, case aside, with something before it. */
bool cn_has_ending(const char *name, const char *const *endings);
/* Length of a name without its ending: "a/b.1.png" -> that of "a/b.1". */
size_t cn_stem_length(const char *name);
/* The order of names by their stems alone; 0 for the same stem. */
int cn_stem_compare(const char *a, const char *b);

#endif
