/* SPDX-License-Identifier: Apache-2.0 */
/* shard_index.c - see shard_index.h. */
#include "data/shard_index.h"

#include "base/sys.h"
#include "io/tar_write.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* SLACK_BYTES: what may stand behind the last member: tar fills up its last record of 10 KiB. */
enum { MAX_BYTES = 1 << 30, SLACK_BYTES = 1 << 20 };

typedef struct index_file {
    cn_ctx *ctx;
    char *text; /* cut into words on the way */
    size_t n;
    int fd; /* the tar file */
    int64_t tar_bytes, end;
} index_file;

/* Whether a member's header, the block before its data, has this name. */
static bool is_there(const index_file *x, const cn_tar_entry *e)
{
    char header[CN_TAR_BLOCK];
    return cn_sys_pread(x->fd, header, sizeof header, e->position) == sizeof header &&
           strncmp(header, e->name, CN_TAR_NAME_BYTES) == 0;
}

static bool read_number(const char *word, int64_t *out)
{
    char *end = NULL;
    *out = word && *word ? strtoll(word, &end, 10) : -1;
    return *out >= 0 && *end == 0;
}

/* The next member of a line; false at its end, and with *bad for what is none. */
static bool next_member(char **rest, cn_tar_entry *e, bool *bad)
{
    int64_t place = 0;
    if (!strtok_r(NULL, " ", rest)) return false;
    const char *at = strtok_r(NULL, " ", rest), *bytes = strtok_r(NULL, " ", rest);
    e->name = strtok_r(NULL, " ", rest);
    *bad = !read_number(at, &place) || !read_number(bytes, &e->bytes) || !e->name ||
           place < CN_TAR_BLOCK;
    e->position = place - CN_TAR_BLOCK;
    return !*bad;
}

/* All members in order, of a copy of the text; false where it isn't an index. visit NULL: the first
 * and the last are looked at in the tar file. */
static bool walk(index_file *x, cn_status (*visit)(void *user, const cn_tar_entry *entry),
                 void *user, cn_status *status)
{
    long long samples = -1;
    cn_tar_entry e = {0}, last = {0};
    bool bad = false, first = true;
    char *lines = NULL, *line = strtok_r(x->text, "\n", &lines);
    if (!line || sscanf(line, "v1.2 %lld", &samples) != 1) return false;
    for (; !bad && (line = strtok_r(NULL, "\n", &lines)); samples--) {
        /* strtok_r goes on in what `rest` points to */
        for (char *rest = line; !bad && next_member(&rest, &e, &bad); last = e) {
            x->end = CN_MAX(x->end, e.position + CN_TAR_BLOCK + e.bytes);
            if (visit && (*status = visit(user, &e)) != CN_OK) return true;
            if (!visit && first && !is_there(x, &e)) return false;
            first = false;
        }
    }
    if (bad || samples) return false;
    return visit || first || is_there(x, &last);
}

static cn_status read_index(index_file *x, const char *path, const char *tar)
{
    size_t bytes = 0;
    CN_TRY(cn_file_read(x->ctx, path, MAX_BYTES, &x->text, &x->n));
    CN_TRY(cn_file_open(x->ctx, tar, &x->fd, &bytes));
    x->tar_bytes = (int64_t)bytes;
    return CN_OK;
}

cn_status cn_shard_index_scan(cn_ctx *ctx, const char *tar,
                              cn_status (*visit)(void *user, const cn_tar_entry *entry), void *user,
                              bool *used)
{
    char path[CN_PATH_BYTES];
    const size_t n = strlen(tar);
    index_file x = {.ctx = ctx, .fd = -1};
    *used = false;
    if (n < 4) return CN_OK;
    CN_TRY(cn_format(ctx, path, sizeof path, "%.*s.idx", (int)(n - 4), tar));
    if (!cn_file_exists(path)) return CN_OK;
    cn_status s = read_index(&x, path, tar);
    char *copy = s == CN_OK ? cn_alloc(ctx, x.n + 1) : NULL;
    if (s == CN_OK && !copy) s = CN_ENOMEM;
    if (s == CN_OK) {
        memcpy(copy, x.text, x.n + 1);
        *used =
            walk(&x, NULL, NULL, &s) && x.end <= x.tar_bytes && x.tar_bytes - x.end <= SLACK_BYTES;
        cn_free(x.text);
        x.text = copy;
        if (*used) (void)walk(&x, visit, user, &s);
    }
    cn_free(x.text);
    if (x.fd >= 0) close(x.fd);
    return s;
}
