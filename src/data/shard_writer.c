/* SPDX-License-Identifier: Apache-2.0 */
/* shard_writer.c - see shard_writer.h. */
#include "data/shard_writer.h"

#include "base/sys.h"
#include "io/checksum.h"
#include "io/json.h"
#include "io/tar_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_STATS_BYTES = 1 << 20, MAX_JOURNAL_BYTES = 1 << 30, LISTED_FAILURES = 100 };

struct cn_shard_writer {
    char dir[CN_PATH_BYTES];
    int64_t number;
    int fd, journal;
    cn_shard_counts counts; /* bytes: those that lines vouch for */
    cn_str index;
    json_t *failures; /* the first ones' texts */
    bool no_memory;   /* for one of them */
};

/* --- samples and counts ----------------------------------------------------------------------- */

cn_status cn_shard_sample_add(cn_ctx *ctx, cn_shard_sample *s, const char *ending,
                              const void *bytes, size_t n)
{
    char name[CN_TAR_NAME_BYTES];
    if (s->n == CN_SHARD_MEMBERS)
        return cn_fail(ctx, CN_EINVAL, "more than %d members of a sample", CN_SHARD_MEMBERS);
    CN_TRY(cn_format(ctx, s->members[s->n].ending, CN_SHARD_ENDING_BYTES, "%s", ending));
    CN_TRY(cn_format(ctx, name, sizeof name, "%s.%s", s->key, ending));
    s->members[s->n].at = s->tar.len + CN_TAR_BLOCK;
    s->members[s->n].bytes = n;
    CN_TRY(cn_tar_add(ctx, &s->tar, name, bytes, n));
    s->n++;
    return CN_OK;
}

void cn_shard_sample_free(cn_shard_sample *s)
{
    cn_str_free(&s->tar);
    *s = (cn_shard_sample){0};
}

void cn_shard_count_reason(cn_shard_counts *c, const char *reason, int64_t n)
{
    int i = 0;
    while (i < c->n_reasons && strcmp(c->reasons[i].name, reason) != 0) i++;
    if (i == CN_SHARD_REASONS) return;
    if (i == c->n_reasons) snprintf(c->reasons[c->n_reasons++].name, 32, "%s", reason);
    c->reasons[i].n += n;
}

/* --- files ------------------------------------------------------------------------------------ */

static cn_status path_of(cn_ctx *ctx, const char *dir, int64_t number, const char *ending,
                         char out[CN_PATH_BYTES])
{
    return cn_format(ctx, out, CN_PATH_BYTES, "%s/%05lld%s", dir, (long long)number, ending);
}

static cn_status read_stats(cn_ctx *ctx, const char *path, cn_shard_counts *out)
{
    json_t *stats = NULL, *n;
    const char *reason;
    CN_TRY(cn_json_load_file(ctx, path, &stats));
    *out = (cn_shard_counts){.entries = cn_json_int(stats, "entries", 0),
                             .samples = cn_json_int(stats, "samples", 0),
                             .bytes = cn_json_int(stats, "bytes", 0)};
    json_object_foreach(json_object_get(stats, "left_out"), reason, n)
    {
        cn_shard_count_reason(out, reason, json_integer_value(n));
    }
    json_decref(stats);
    return CN_OK;
}

cn_status cn_shard_finished(cn_ctx *ctx, const char *dir, int64_t number, bool *finished,
                            cn_shard_counts *counts)
{
    char path[CN_PATH_BYTES];
    CN_TRY(path_of(ctx, dir, number, ".tar", path));
    *finished = cn_file_exists(path);
    if (!*finished) return CN_OK;
    CN_TRY(path_of(ctx, dir, number, "_stats.json", path));
    return read_stats(ctx, path, counts);
}

cn_status cn_shard_begun(cn_ctx *ctx, const char *dir, int64_t number, bool *begun)
{
    char path[CN_PATH_BYTES];
    CN_TRY(path_of(ctx, dir, number, ".tar.partial", path));
    *begun = cn_file_exists(path);
    return CN_OK;
}

static cn_status write_all(cn_ctx *ctx, int fd, const char *what, const char *bytes, size_t n,
                           int64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t k = cn_sys_pwrite(fd, bytes + done, n - done, at + (int64_t)done);
        if (k < 0 && errno == EINTR && !cn_cancelled(ctx)) continue;
        if (k <= 0) return cn_fail_io(ctx, "write", what, k ? errno : ENOSPC);
        done += (size_t)k;
    }
    return CN_OK;
}

/* --- the journal ------------------------------------------------------------------------------ */

static void add_index(cn_str *line, const cn_shard_sample *s, int64_t at)
{
    for (int i = 0; i < s->n; i++)
        cn_str_addf(line, "%s%s %lld %zu %s.%s", i ? " " : "", s->members[i].ending,
                    (long long)(at + (int64_t)s->members[i].at), s->members[i].bytes, s->key,
                    s->members[i].ending);
}

static void take_failure(cn_shard_writer *w, const char *reason, const char *text)
{
    cn_shard_count_reason(&w->counts, reason, 1);
    if (*text && cn_json_is_text(text) && json_array_size(w->failures) < LISTED_FAILURES)
        w->no_memory |= json_array_append_new(w->failures, json_string(text)) != 0;
}

/* Whether the tar file still holds what a line says. */
static bool holds(cn_ctx *ctx, const cn_shard_writer *w, int64_t bytes, uint32_t crc)
{
    char *data = bytes > 0 ? cn_alloc(ctx, (size_t)bytes) : NULL;
    const bool same = data && cn_sys_pread(w->fd, data, (size_t)bytes, w->counts.bytes) == bytes &&
                      cn_crc32(data, (size_t)bytes) == crc;
    cn_free(data);
    return same;
}

/* "+ BYTES CRC INDEX", "- REASON TEXT": false for a line that no longer holds. */
static bool take_line(cn_ctx *ctx, cn_shard_writer *w, char *line)
{
    long long bytes = 0;
    unsigned crc = 0;
    int at = 0;
    char reason[32];
    if (sscanf(line, "+ %lld %x %n", &bytes, &crc, &at) == 2 && at > 0) {
        if (!holds(ctx, w, bytes, crc)) return false;
        cn_str_addf(&w->index, "%s\n", line + at);
        w->counts.bytes += bytes;
        w->counts.samples++;
    } else if (sscanf(line, "- %31s %n", reason, &at) == 1 && at > 0) {
        take_failure(w, reason, line + at);
    } else {
        return false;
    }
    w->counts.entries++;
    return true;
}

/* Takes the lines that hold, and cuts both files behind them. */
static cn_status read_journal(cn_ctx *ctx, cn_shard_writer *w, const char *path)
{
    char *text = NULL, *line;
    size_t n = 0;
    CN_TRY(cn_file_read(ctx, path, MAX_JOURNAL_BYTES, &text, &n));
    for (line = text;;) {
        char *end = strchr(line, '\n');
        if (!end) break;
        *end = 0;
        if (!take_line(ctx, w, line)) break;
        line = end + 1;
    }
    const int64_t kept = line - text;
    cn_free(text);
    if (w->index.failed) return cn_fail(ctx, CN_ENOMEM, "no memory for a shard's index");
    if (cn_sys_truncate(w->journal, kept) != 0 || lseek(w->journal, kept, SEEK_SET) < 0)
        return cn_fail_io(ctx, "cut", path, errno);
    return CN_OK;
}

static cn_status write_line(cn_ctx *ctx, const cn_shard_writer *w, const cn_str *line)
{
    char path[CN_PATH_BYTES];
    CN_TRY(path_of(ctx, w->dir, w->number, ".journal", path));
    if (line->failed) return cn_fail(ctx, CN_ENOMEM, "no memory for a line of %s", path);
    const off_t at = lseek(w->journal, 0, SEEK_CUR);
    CN_TRY(write_all(ctx, w->journal, path, line->data, line->len, at));
    return lseek(w->journal, at + (off_t)line->len, SEEK_SET) < 0
               ? cn_fail_io(ctx, "write", path, errno)
               : CN_OK;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* The lock is on the file that goes by the name: a run that finishes a shard renames it. File
 * systems without locks have the folder's lock alone (lock.h), which parts of a run don't take. */
static cn_status lock_partial(cn_ctx *ctx, const cn_shard_writer *w, const char *path)
{
    struct stat mine, named;
    if (cn_sys_lock_file(w->fd) != 0 && (errno == EAGAIN || errno == EACCES))
        return cn_fail(ctx, CN_EIO, "%s: another run is writing this shard", path);
    if (fstat(w->fd, &mine) != 0 || stat(path, &named) != 0 || mine.st_ino != named.st_ino)
        return cn_fail(ctx, CN_EIO, "%s: another run has just finished this shard", path);
    return CN_OK;
}

static cn_status open_files(cn_ctx *ctx, cn_shard_writer *w, const char *about)
{
    char path[CN_PATH_BYTES];
    cn_str head = {0};
    CN_TRY(path_of(ctx, w->dir, w->number, ".tar.partial", path));
    w->fd = cn_sys_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
    if (w->fd < 0) return cn_fail_io(ctx, "write", path, errno);
    CN_TRY(lock_partial(ctx, w, path));
    cn_status s = cn_tar_add_comment(ctx, &head, about);
    if (s == CN_OK) s = write_all(ctx, w->fd, path, head.data, head.len, 0);
    w->counts.bytes = (int64_t)head.len;
    cn_str_free(&head);
    CN_TRY(s);
    CN_TRY(path_of(ctx, w->dir, w->number, ".journal", path));
    w->journal = cn_sys_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
    if (w->journal < 0) return cn_fail_io(ctx, "write", path, errno);
    CN_TRY(read_journal(ctx, w, path));
    return cn_sys_truncate(w->fd, w->counts.bytes) == 0 ? CN_OK
                                                        : cn_fail_io(ctx, "cut", path, errno);
}

cn_status cn_shard_open(cn_ctx *ctx, const char *dir, int64_t number, const char *about,
                        cn_shard_writer **out)
{
    cn_shard_writer *w = cn_alloc0(ctx, sizeof *w);
    if (!w) return CN_ENOMEM;
    w->fd = w->journal = -1;
    w->number = number;
    w->failures = json_array();
    cn_status s = w->failures ? cn_format(ctx, w->dir, sizeof w->dir, "%s", dir)
                              : cn_fail(ctx, CN_ENOMEM, "no memory for a shard");
    if (s == CN_OK) s = open_files(ctx, w, about);
    if (s == CN_OK)
        *out = w;
    else
        cn_shard_close(w);
    return s;
}

const cn_shard_counts *cn_shard_holds(const cn_shard_writer *w)
{
    return &w->counts;
}

void cn_shard_close(cn_shard_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->journal >= 0) close(w->journal);
    cn_str_free(&w->index);
    json_decref(w->failures);
    cn_free(w);
}

/* --- writing ---------------------------------------------------------------------------------- */

static cn_status put_sample(cn_ctx *ctx, cn_shard_writer *w, const cn_shard_sample *sample,
                            cn_str *line)
{
    char path[CN_PATH_BYTES];
    cn_str index = {0};
    CN_TRY(path_of(ctx, w->dir, w->number, ".tar.partial", path));
    CN_TRY(write_all(ctx, w->fd, path, sample->tar.data, sample->tar.len, w->counts.bytes));
    add_index(&index, sample, w->counts.bytes);
    cn_str_addf(line, "+ %zu %08x %s\n", sample->tar.len,
                cn_crc32(sample->tar.data, sample->tar.len), index.data ? index.data : "");
    cn_str_addf(&w->index, "%s\n", index.data ? index.data : "");
    line->failed |= index.failed | w->index.failed;
    cn_str_free(&index);
    return CN_OK;
}

cn_status cn_shard_put(cn_ctx *ctx, cn_shard_writer *w, const cn_shard_sample *sample,
                       const char *reason, const char *text)
{
    cn_str line = {0};
    cn_status s = CN_OK;
    if (sample)
        s = put_sample(ctx, w, sample, &line);
    else
        cn_str_addf(&line, "- %s %.*s\n", reason, (int)strcspn(text, "\n"), text);
    if (s == CN_OK) s = write_line(ctx, w, &line);
    cn_str_free(&line);
    if (s != CN_OK) return s;
    w->counts.entries++;
    if (sample) {
        w->counts.samples++;
        w->counts.bytes += (int64_t)sample->tar.len;
    } else {
        take_failure(w, reason, text);
    }
    return CN_OK;
}

static cn_status write_stats(cn_ctx *ctx, const cn_shard_writer *w)
{
    char path[CN_PATH_BYTES];
    json_t *left_out = json_object(), *stats;
    for (int i = 0; left_out && i < w->counts.n_reasons; i++)
        json_object_set_new(left_out, w->counts.reasons[i].name,
                            json_integer((json_int_t)w->counts.reasons[i].n));
    stats = json_pack("{s:I,s:I,s:I,s:o,s:O}", "entries", (json_int_t)w->counts.entries, "samples",
                      (json_int_t)w->counts.samples, "bytes", (json_int_t)w->counts.bytes,
                      "left_out", left_out, "failures", w->failures);
    const bool whole =
        stats && !w->no_memory &&
        json_object_size(json_object_get(stats, "left_out")) == (size_t)w->counts.n_reasons;
    cn_status s = whole ? path_of(ctx, w->dir, w->number, "_stats.json", path)
                        : cn_fail(ctx, CN_ENOMEM, "no memory for a shard's counts");
    if (s == CN_OK) s = cn_json_save_file(ctx, path, stats);
    json_decref(stats);
    return s;
}

static cn_status write_index(cn_ctx *ctx, const cn_shard_writer *w)
{
    char path[CN_PATH_BYTES];
    cn_file_writer f;
    CN_TRY(path_of(ctx, w->dir, w->number, ".idx", path));
    CN_TRY(cn_writer_open(ctx, path, &f));
    if (fprintf(f.f, "v1.2 %lld\n", (long long)w->counts.samples) < 0 ||
        (w->index.len && fwrite(w->index.data, 1, w->index.len, f.f) != w->index.len)) {
        cn_writer_abort(&f);
        return cn_fail_io(ctx, "write", path, errno);
    }
    return cn_writer_commit(ctx, &f);
}

cn_status cn_shard_finish(cn_ctx *ctx, cn_shard_writer *w)
{
    char partial[CN_PATH_BYTES], path[CN_PATH_BYTES];
    cn_str end = {0};
    CN_TRY(path_of(ctx, w->dir, w->number, ".tar.partial", partial));
    cn_status s = cn_tar_add_end(ctx, &end);
    if (s == CN_OK) s = write_all(ctx, w->fd, partial, end.data, end.len, w->counts.bytes);
    w->counts.bytes += (int64_t)end.len;
    cn_str_free(&end);
    CN_TRY(s);
    if (cn_sys_fsync(w->fd) != 0) return cn_fail_io(ctx, "write", partial, errno);
    CN_TRY(write_index(ctx, w));
    CN_TRY(write_stats(ctx, w));
    CN_TRY(path_of(ctx, w->dir, w->number, ".tar", path));
    if (cn_sys_rename(partial, path) != 0) return cn_fail_io(ctx, "rename", partial, errno);
    CN_TRY(cn_sync_parent(ctx, path));
    CN_TRY(path_of(ctx, w->dir, w->number, ".journal", path));
    cn_sys_unlink(path);
    return CN_OK;
}
