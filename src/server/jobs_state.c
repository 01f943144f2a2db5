/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_state.c - jobs that wait or run, a JSON file each, so that they outlive the process.
 *
 * A file is there from before its job is accepted until the job has ended: what is found at the
 * next start is done then. It is written through a temporary file, fsync and rename.
 */
#include "server/jobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char ending[] = ".job.json";

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
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    const bool good = text && path_of(path, dir, j->id, "") && path_of(made, dir, j->id, ".new") &&
                      write_file(made, text) && rename(made, path) == 0 && sync_dir(dir);
    free(text);
    json_decref(value);
    return good;
}

void jobs_state_remove(const char *dir, const char *id)
{
    char path[CN_PATH_BYTES];
    if (path_of(path, dir, id, "")) unlink(path);
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

/* Of a file that is one: its job. */
static bool read_one(const char *dir, const char *name, saved *out)
{
    char path[CN_PATH_BYTES];
    const size_t n = strlen(name);
    if (n != JOB_ID_BYTES - 1 + sizeof ending - 1 || strcmp(name + JOB_ID_BYTES - 1, ending) != 0)
        return false;
    *out = (saved){0};
    memcpy(out->id, name, JOB_ID_BYTES - 1);
    if (!path_of(path, dir, out->id, "")) return false;
    out->value = json_load_file(path, 0, NULL);
    out->time_ns = json_integer_value(json_object_get(out->value, "time_ns"));
    out->order = json_integer_value(json_object_get(out->value, "order"));
    return out->value != NULL;
}

static saved *read_all(const char *dir, int *count)
{
    DIR *d = opendir(dir);
    saved *list = NULL;
    int n = 0;
    if (!d) return NULL;
    list = malloc(sizeof *list);
    for (struct dirent *e; list && (e = readdir(d));) {
        saved *more = realloc(list, ((size_t)n + 1) * sizeof *list);
        if (!more) break;
        list = more;
        if (read_one(dir, e->d_name, &list[n])) n++;
    }
    closedir(d);
    *count = n;
    return list;
}

bool jobs_state_load(const char *dir,
                     void (*add)(void *user, const char *id, const char *kind, json_t *request),
                     void *user)
{
    int n = 0;
    saved *list = read_all(dir, &n);
    if (!list) return false;
    qsort(list, (size_t)n, sizeof *list, by_time);
    for (int i = 0; i < n; i++) {
        json_t *request = json_object_get(list[i].value, "request");
        const char *kind = json_string_value(json_object_get(list[i].value, "kind"));
        if (kind && json_is_object(request)) add(user, list[i].id, kind, json_incref(request));
        json_decref(list[i].value);
    }
    free(list);
    return true;
}
