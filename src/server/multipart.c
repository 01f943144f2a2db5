/* SPDX-License-Identifier: Apache-2.0 */
/* multipart.c - see multipart.h. */
#include "server/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { BOUNDARY_BYTES = 70 }; /* RFC 2046, section 5.1.1 */

/* "\r\n--" and the boundary. */
static bool boundary_of(const char *type, char out[BOUNDARY_BYTES + 8], size_t *n)
{
    if (!type || strncasecmp(type, "multipart/form-data", 19) != 0) return false;
    const char *at = strcasestr(type, "boundary=");
    if (!at) return false;
    at += 9;
    const bool quoted = *at == '"';
    at += quoted;
    const size_t length = strcspn(at, quoted ? "\"" : "; \t");
    if (!length || length > BOUNDARY_BYTES) return false;
    *n = (size_t)snprintf(out, BOUNDARY_BYTES + 8, "\r\n--%.*s", (int)length, at);
    return true;
}

/* The value of name="..." in a part's head, cut to the room; false: absent. */
static bool parameter(const char *head, size_t n, const char *name, char *out, size_t cap)
{
    const size_t length = strlen(name);
    for (const char *at = head; (at = memmem(at, n - (size_t)(at - head), name, length)); at++) {
        const char *value = at + length, *end = head + n;
        /* filename= ends with name= too */
        if (at > head && at[-1] != ' ' && at[-1] != ';') continue;
        size_t used = 0;
        while (value < end && *value != '"' && used + 1 < cap) out[used++] = *value++;
        out[used] = 0;
        return true;
    }
    return false;
}

int multipart_parse(const char *type, const char *body, size_t n, multipart_part *parts, int most)
{
    char mark[BOUNDARY_BYTES + 8], file[8];
    size_t marks;
    int count = 0;
    if (!boundary_of(type, mark, &marks)) return -1;
    /* the first one stands at the beginning, without the line's end before it */
    if (n < marks - 2 || memcmp(body, mark + 2, marks - 2) != 0) return -1;
    const char *at = body + marks - 2, *end = body + n;
    while (end - at < 2 || memcmp(at, "--", 2) != 0) {
        const char *head = at, *data = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (!data) return -1;
        const size_t head_bytes = (size_t)(data - head);
        data += 4;
        /* an empty part's end may begin with its head's */
        const char *next = memmem(data - 2, (size_t)(end - data + 2), mark, marks);
        if (!next) return -1;
        at = next + marks;
        multipart_part p = {.data = data, .bytes = next > data ? (size_t)(next - data) : 0};
        if (!parameter(head, head_bytes, "name=\"", p.name, sizeof p.name)) continue;
        p.is_file = parameter(head, head_bytes, "filename=\"", file, sizeof file);
        if (count < most) parts[count++] = p;
    }
    return count;
}
