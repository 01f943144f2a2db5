/* SPDX-License-Identifier: Apache-2.0 */
/* store_index.c - which keys a file's slots hold, noted beside it, so that a run needn't read every
 * record to know.
 *
 * The note counts as long as the file has the length and the time of change that it tells; who
 * appends brings it up to date. It is a hint: a record is checked whenever it is read, and one that
 * turns out damaged takes the note away, so that the next run looks through the file. Where there
 * can't be a note the file is looked through at each opening.
 */
#include "data/store_internal.h"

#include "base/sys.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "CNINDEX1";

typedef struct head {
    char magic[8];
    int64_t slots, file_bytes, seconds, nanoseconds; /* of the file that it tells of */
} head;

typedef struct entry {
    uint64_t key, whole;
} entry;

enum { AT_A_TIME = 4096 };

static bool name(const cn_store *s, char out[4128])
{
    const int n = snprintf(out, 4128, "%s.index", s->path);
    return n > 0 && n < 4128;
}

static int open_index(const cn_store *s, int how)
{
    char path[4128];
    return name(s, path) ? cn_sys_open(path, how, 0666) : -1;
}

void cn_store_index_drop(const cn_store *s)
{
    char path[4128];
    if (name(s, path)) cn_sys_unlink(path);
}

/* What the note must begin with while the file is as it is. */
static bool make_head(const cn_store *s, int64_t slots, head *out)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0) return false;
    *out = (head){.slots = slots,
                  .file_bytes = st.st_size,
                  .seconds = st.st_mtim.tv_sec,
                  .nanoseconds = st.st_mtim.tv_nsec};
    memcpy(out->magic, magic, sizeof magic);
    return true;
}

/* Whether the open note tells of the file as it is. */
static bool counts(const cn_store *s, int fd, int64_t slots)
{
    head want, is;
    return make_head(s, slots, &want) && cn_sys_pread(fd, &is, sizeof is, 0) == sizeof is &&
           memcmp(&is, &want, sizeof is) == 0;
}

static int64_t place(int64_t slot)
{
    return (int64_t)sizeof(head) + slot * (int64_t)sizeof(entry);
}

static bool read_entries(int fd, int64_t n, cn_seen *list)
{
    entry some[AT_A_TIME];
    for (int64_t at = 0; at < n; at += AT_A_TIME) {
        const int64_t k = CN_MIN((int64_t)AT_A_TIME, n - at);
        const ssize_t bytes = (ssize_t)((size_t)k * sizeof *some);
        if (cn_sys_pread(fd, some, (size_t)bytes, place(at)) != bytes) return false;
        for (int64_t i = 0; i < k; i++)
            list[at + i] = (cn_seen){some[i].key, at + i, some[i].whole == 1};
    }
    return true;
}

bool cn_store_index_read(const cn_store *s, int64_t slots, cn_seen *list)
{
    const int fd = open_index(s, O_RDONLY);
    if (fd < 0) return false;
    const bool read = counts(s, fd, slots) && read_entries(fd, slots, list);
    close(fd);
    return read;
}

static bool write_entries(int fd, int64_t n, const cn_seen *list)
{
    entry some[AT_A_TIME];
    for (int64_t at = 0; at < n; at += AT_A_TIME) {
        const int64_t k = CN_MIN((int64_t)AT_A_TIME, n - at);
        const ssize_t bytes = (ssize_t)((size_t)k * sizeof *some);
        for (int64_t i = 0; i < k; i++) some[i] = (entry){list[at + i].key, list[at + i].whole};
        if (cn_sys_pwrite(fd, some, (size_t)bytes, place(at)) != bytes) return false;
    }
    return true;
}

static bool write_head(const cn_store *s, int fd, int64_t slots)
{
    head h;
    return make_head(s, slots, &h) && cn_sys_pwrite(fd, &h, sizeof h, 0) == sizeof h;
}

/* The head comes last: without it the rest counts for nothing. */
void cn_store_index_write(const cn_store *s, int64_t slots, const cn_seen *list)
{
    const int fd = open_index(s, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0) return;
    const bool written = write_entries(fd, slots, list) && write_head(s, fd, slots);
    close(fd);
    if (!written) cn_store_index_drop(s);
}

bool cn_store_index_counts(const cn_store *s, int64_t slots)
{
    const int fd = open_index(s, O_RDONLY);
    if (fd < 0) return false;
    const bool counted = counts(s, fd, slots);
    close(fd);
    return counted;
}

void cn_store_index_add(const cn_store *s, int64_t slots, int64_t slot, uint64_t key)
{
    const entry e = {key, 1};
    const int fd = open_index(s, O_RDWR);
    if (fd < 0) return;
    const bool written =
        cn_sys_pwrite(fd, &e, sizeof e, place(slot)) == sizeof e && write_head(s, fd, slots);
    close(fd);
    if (!written) cn_store_index_drop(s);
}
