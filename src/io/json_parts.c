/* SPDX-License-Identifier: Apache-2.0 */
/* json_parts.c - see json_parts.h. */
#include "io/json_parts.h"

#include "base/sys.h"
#include "io/json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct cn_json_parts {
    const char *text;
    size_t n;
    bool mapped;
};

/* --- opening ---------------------------------------------------------------------------------- */

static cn_status map_file(cn_ctx *ctx, const char *path, cn_json_parts *j)
{
    int fd = -1;
    size_t n = 0;
    CN_TRY(cn_file_open(ctx, path, &fd, &n));
    void *p = n ? cn_sys_map(fd, n) : NULL;
    close(fd);
    if (!p)
        return cn_fail(ctx, CN_EFORMAT, "%s: empty or can't be mapped; a JSON file is expected",
                       path);
    j->text = p;
    j->n = n;
    j->mapped = true;
    return CN_OK;
}

cn_status cn_json_parts_open(cn_ctx *ctx, const char *path, cn_json_parts **out)
{
    cn_json_parts *j = cn_alloc0(ctx, sizeof *j);
    if (!j) return CN_ENOMEM;
    cn_status s = map_file(ctx, path, j);
    if (s == CN_OK)
        *out = j;
    else
        cn_free(j);
    return s;
}

cn_status cn_json_parts_open_memory(cn_ctx *ctx, const char *text, size_t n, cn_json_parts **out)
{
    cn_json_parts *j = cn_alloc0(ctx, sizeof *j);
    if (!j) return CN_ENOMEM;
    j->text = text;
    j->n = n;
    *out = j;
    return CN_OK;
}

void cn_json_parts_close(cn_json_parts *j)
{
    if (!j) return;
    if (j->mapped) munmap((void *)(uintptr_t)j->text, j->n);
    cn_free(j);
}

/* --- scanning --------------------------------------------------------------------------------- */

typedef struct cursor {
    const cn_json_parts *j;
    const char *p, *end;
} cursor;

static char peek(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
        c->p++;
    return c->p < c->end ? *c->p : 0;
}

static bool take(cursor *c, char want)
{
    if (peek(c) != want) return false;
    c->p++;
    return true;
}

static bool skip_string(cursor *c)
{
    for (c->p++; c->p < c->end; c->p++) {
        if (*c->p == '"') {
            c->p++;
            return true;
        }
        if (*c->p == '\\' && ++c->p == c->end) break;
    }
    c->p = c->end;
    return false;
}

/* Moves behind the value that begins here: a string, a bracket with its partner, or a plain
 * word. */
static bool skip_value(cursor *c)
{
    int64_t depth = 0;
    const char *begin = (peek(c), c->p);
    while (c->p < c->end) {
        const char k = *c->p;
        if (k == '"') {
            if (!skip_string(c)) return false;
        } else if (k == '{' || k == '[') {
            depth++;
            c->p++;
        } else if (depth == 0 && strchr(",]} \t\r\n", k)) {
            break;
        } else if (k == '}' || k == ']') {
            depth--;
            c->p++;
        } else {
            c->p++;
            continue;
        }
        if (depth == 0) break;
    }
    return depth == 0 && c->p > begin;
}

static cn_status fail_at(cn_ctx *ctx, const cursor *c, const char *what)
{
    return cn_fail(ctx, CN_EFORMAT, "not valid JSON: %s at byte %zu", what,
                   (size_t)(c->p - c->j->text));
}

cn_status cn_json_parts_at(cn_ctx *ctx, const cn_json_parts *j, uint64_t offset, uint32_t bytes,
                           json_t **out)
{
    json_error_t err;
    json_t *value = cn_json_parse(j->text + offset, bytes, JSON_REJECT_DUPLICATES, &err);
    if (!value)
        return cn_fail(ctx, CN_EFORMAT, "not valid JSON: %s in the object at byte %llu",
                       cn_json_reason(&err), (unsigned long long)offset);
    *out = value;
    return CN_OK;
}

static cn_status walk_array(cn_ctx *ctx, cursor *c, cn_json_part_fn fn, void *user)
{
    if (!take(c, '[')) return fail_at(ctx, c, "'[' expected");
    if (take(c, ']')) return CN_OK;
    do {
        json_t *element = NULL;
        if (peek(c) != '{') return fail_at(ctx, c, "an object {...} expected");
        const char *begin = c->p;
        if (!skip_value(c)) return fail_at(ctx, c, "an object that doesn't end");
        const size_t n = (size_t)(c->p - begin);
        if (n > UINT32_MAX) return fail_at(ctx, c, "an object of more than 4 GB");
        const uint64_t offset = (uint64_t)(begin - c->j->text);
        CN_TRY(cn_json_parts_at(ctx, c->j, offset, (uint32_t)n, &element));
        cn_status s = fn(user, ctx, element, offset, (uint32_t)n);
        json_decref(element);
        CN_TRY(s);
    } while (take(c, ','));
    return take(c, ']') ? CN_OK : fail_at(ctx, c, "',' or ']' expected");
}

cn_status cn_json_parts_each(cn_ctx *ctx, const cn_json_parts *j, const char *key,
                             cn_json_part_fn fn, void *user, bool *found)
{
    const size_t key_bytes = key ? strlen(key) : 0;
    cursor c = {j, j->text, j->text + j->n};
    if (found) *found = false;
    if (j->n >= 3 && memcmp(j->text, "\xef\xbb\xbf", 3) == 0) c.p += 3;
    if (!key) {
        if (found) *found = true;
        CN_TRY(walk_array(ctx, &c, fn, user));
        peek(&c);
        return c.p == c.end ? CN_OK : fail_at(ctx, &c, "the end expected behind the list");
    }
    if (!take(&c, '{')) return fail_at(ctx, &c, "an object {...} expected");
    if (take(&c, '}')) return CN_OK;
    do {
        if (peek(&c) != '"') return fail_at(ctx, &c, "a key expected");
        const char *name = c.p + 1;
        if (!skip_string(&c)) return fail_at(ctx, &c, "a string that doesn't end");
        const bool wanted =
            (size_t)(c.p - 1 - name) == key_bytes && memcmp(name, key, key_bytes) == 0;
        if (!take(&c, ':')) return fail_at(ctx, &c, "':' expected");
        if (wanted) {
            if (found) *found = true;
            return walk_array(ctx, &c, fn, user);
        }
        if (!skip_value(&c)) return fail_at(ctx, &c, "a value that doesn't end");
    } while (take(&c, ','));
    return take(&c, '}') ? CN_OK : fail_at(ctx, &c, "',' or '}' expected");
}
