/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_state.c - jobs that wait or run, a JSON file each, so that they outlive the process.
 *
 * A file is there from before its job is accepted until the job has ended: what is found at the
 * next start is done then. It is written through a temporary file, fsync and rename. What can't be
 * read is named and stays: it may be readable tomorrow.
 */
#include "server/jobs.h"

#include "io/json_text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char ending[] = ".job.json";
enum { MOST_BYTES = 512 << 20 }; /* of a file: far more than a request may have */

int jobs_state_lock(const char *dir, char *why, size_t cap)
{
    char path[CN_PATH_BYTES], owner[64] = "";
    const int n = snprintf(path, sizeof path, "%s/.controlnet-serve", dir);
    if (n <= 0 || n >= CN_PATH_BYTES) {
        snprintf(why, cap, "--state: the folder's name is too long");
        return -1;
    }
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        const int m = snprintf(owner, sizeof owner, "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) == 0 && pwrite(fd, owner, (size_t)m, 0) == m) return fd;
        snprintf(why, cap, "--state %s: %s", path, strerror(errno));
    } else if (fd >= 0 && errno == EWOULDBLOCK) {
        const ssize_t got = pread(fd, owner, sizeof owner - 1, 0);
        owner[got > 0 ? got : 0] = 0;
        snprintf(why, cap, "--state %s: another server keeps its jobs there (PID %ld)", dir,
                 strtol(owner, NULL, 10));
    } else {
        snprintf(why, cap, "--state %s: %s", path, strerror(errno));
    }
    if (fd >= 0) close(fd);
    return -1;
}

static bool path_of(char out[CN_PATH_BYTES], const char *dir, const char *id, const char *mark)
{
    const int n = snprintf(out, CN_PATH_BYTES, "%s/%s%s%s", dir, id, ending, mark);
    return n > 0 && n < CN_PATH_BYTES;
}

static bool sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return good;
}

static bool write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    if (!f) return false;
    bool good = fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    return fclose(f) == 0 && good;
}

bool jobs_state_save(const char *dir, const job *j)
{
    char path[CN_PATH_BYTES], made[CN_PATH_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *value = json_pack("{s:s, s:I, s:i, s:O}", "kind", j->kind->name, "time_ns",
                              (json_int_t)now.tv_sec * 1000000000 + now.tv_nsec, "order", j->order,
                              "request", j->request);
    char *text = cn_json_text(value, JSON_COMPACT);
    const bool good = text && path_of(path, dir, j->id, "") && path_of(made, dir, j->id, ".new") &&
                      write_file(made, text) && rename(made, path) == 0 && sync_dir(dir);
    if (!good && text && path_of(made, dir, j->id, ".new")) unlink(made);
    free(text);
    json_decref(value);
    return good;
}

void jobs_state_remove(const char *dir, const char *id)
{
    char path[CN_PATH_BYTES];
    if (path_of(path, dir, id, "")) unlink(path);
}

const char *jobs_state_put_away(const char *dir, const char *id)
{
    static const char mark[] = ".failed";
    char from[CN_PATH_BYTES], to[CN_PATH_BYTES];
    const bool moved =
        path_of(from, dir, id, "") && path_of(to, dir, id, mark) && rename(from, to) == 0;
    return moved ? ".job.json.failed" : ending;
}

typedef struct saved {
    char id[JOB_ID_BYTES];
    json_t *value;
    json_int_t time_ns, order;
} saved;

static int by_time(const void *a, const void *b)
{
    const saved *x = a, *y = b;
    if (x->time_ns != y->time_ns) return x->time_ns < y->time_ns ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The whole of a regular file, to be freed; NULL with the reason. */
static char *read_file(const char *path, size_t *size, const char **why)
{
    struct stat st;
    char *text = NULL;
    size_t n = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        *why = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        *why = "not a regular file";
    else if (st.st_size > MOST_BYTES)
        *why = "larger than any job is";
    else if (!(text = malloc((size_t)st.st_size + 1)))
        *why = "out of memory";
    while (text && n < (size_t)st.st_size) {
        const ssize_t got = read(fd, text + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            *why = strerror(errno);
            free(text);
            text = NULL;
        }
        if (got <= 0) break;
        n += (size_t)got;
    }
    if (fd >= 0) close(fd);
    *size = n;
    return text;
}

static bool is_job(const char *name)
{
    const size_t n = strlen(name);
    return n == JOB_ID_BYTES - 1 + sizeof ending - 1 &&
           strcmp(name + JOB_ID_BYTES - 1, ending) == 0;
}

/* A file's job; what is in it belongs to *out. False with the reason. */
static bool read_one(const char *dir, const char *name, saved *out, const char **why)
{
    char path[CN_PATH_BYTES];
    json_error_t error;
    size_t n = 0;
    *out = (saved){0};
    memcpy(out->id, name, JOB_ID_BYTES - 1);
    *why = "its name is too long";
    char *text = path_of(path, dir, out->id, "") ? read_file(path, &n, why) : NULL;
    if (!text) return false;
    out->value = cn_json_parse(text, n, 0, &error);
    free(text);
    if (!out->value) *why = error.text[0] ? "not JSON" : "out of memory";
    if (!out->value) return false;
    out->time_ns = json_integer_value(json_object_get(out->value, "time_ns"));
    out->order = json_integer_value(json_object_get(out->value, "order"));
    if (json_is_object(json_object_get(out->value, "request"))) return true;
    *why = "not a job's";
    json_decref(out->value);
    return false;
}

/* False with errno where the folder can't be read to its end. */
static bool read_all(const char *dir, const jobs_state_calls *calls, saved **list, int *count)
{
    DIR *d = opendir(dir);
    const struct dirent *e = NULL;
    bool good = d != NULL;
    while (good && (errno = 0, e = readdir(d))) {
        const char *why = NULL;
        if (!is_job(e->d_name)) continue;
        saved *more = realloc(*list, ((size_t)*count + 1) * sizeof *more);
        if (more) *list = more;
        if (!more)
            good = false;
        else if (read_one(dir, e->d_name, &more[*count], &why))
            (*count)++;
        else
            calls->left(calls->user, e->d_name, why);
    }
    if (good) good = errno == 0;
    const int error = errno;
    if (d) closedir(d);
    errno = error;
    return good;
}

bool jobs_state_load(const char *dir, const jobs_state_calls *calls)
{
    saved *list = NULL;
    int n = 0;
    const bool good = read_all(dir, calls, &list, &n);
    const int error = errno;
    if (n) qsort(list, (size_t)n, sizeof *list, by_time);
    for (int i = 0; i < n; i++) {
        if (good)
            calls->add(calls->user, list[i].id,
                       json_incref(json_object_get(list[i].value, "request")));
        json_decref(list[i].value);
    }
    free(list);
    errno = error;
    return good;
}
