/* SPDX-License-Identifier: Apache-2.0 */
/* page.h - the page's files, which tools/embed.sh puts into the program. */
#ifndef CN_SERVER_PAGE_H
#define CN_SERVER_PAGE_H

#include <stddef.h>

typedef struct page_file {
    const char *name; /* "index.html"; NULL behind the last */
    const unsigned char *bytes;
    size_t n;
} page_file;

extern const page_file page_files[];

#endif
