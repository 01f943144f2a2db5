/* SPDX-License-Identifier: Apache-2.0 */
/* zip.h - the directory of a zip file whose entries are stored, read in place. */
#ifndef CN_IO_ZIP_H
#define CN_IO_ZIP_H

#include "base/base.h"

typedef struct cn_zip_entry {
    const char *name; /* name_len bytes in the file, no 0 behind */
    size_t name_len;
    const unsigned char *data; /* NULL for a compressed entry */
    size_t n;
} cn_zip_entry;

typedef struct cn_zip {
    cn_zip_entry *entries; /* sorted by name */
    size_t count;
} cn_zip;

/* Checks the directory against the n bytes; entries point into them. Close with cn_zip_close. */
cn_status cn_zip_parse(cn_ctx *ctx, const unsigned char *bytes, size_t n, cn_zip *out) CN_CHECKED;
const cn_zip_entry *cn_zip_find(const cn_zip *zip, const char *name, size_t name_len);
void cn_zip_close(cn_zip *zip);

#endif
