/* SPDX-License-Identifier: Apache-2.0 */
/* multipart.h - RFC 7578's multipart/form-data, parsed where it lies. */
#ifndef CN_SERVER_MULTIPART_H
#define CN_SERVER_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

enum { MULTIPART_NAME = 64 };

typedef struct multipart_part {
    char name[MULTIPART_NAME];
    const char *data; /* in the body */
    size_t bytes;
    bool is_file; /* it has a file's name */
} multipart_part;

/* Parts of a body, `most` at most; how many, -1: the type names no boundary or the body is cut
 * short. type: the header Content-Type, NULL: absent. */
int multipart_parse(const char *type, const char *body, size_t n, multipart_part *parts, int most);

#endif
