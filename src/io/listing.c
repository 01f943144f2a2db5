/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - see listing.h. */
#include "io/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 32, PATH_BYTES = 4096 };

const char *const cn_picture_endings[] = {".png", ".jpg", ".jpeg", ".webp", NULL};

typedef struct walk {
    cn_ctx *ctx;
    const cn_listing_rules *rules;
    cn_listing *out;
    bool has_except;
    struct stat except;
    char path[PATH_BYTES]; /* of the folder at hand */
    size_t root;           /* length of the first one's path and its '/' */
} walk;

size_t cn_stem_length(const char *name)
{
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    return dot && (!slash || dot > slash) ? (size_t)(dot - name) : strlen(name);
}

bool cn_has_ending(const char *name, const char *const *endings)
{
    const size_t n = strlen(name);
    for (; *endings; endings++) {
        const size_t m = strlen(*endings);
        if (n > m && strcasecmp(name + n - m, *endings) == 0) return true;
    }
    return false;
}

static cn_status add(walk *w, const char *name)
{
    cn_listing *l = w->out;
    const char *folder = w->path + w->root;
    if (l->n == l->cap) {
        const int64_t cap = l->cap ? 2 * l->cap : 1024;
        char **grown =
            cn_regrow(w->ctx, l->names, (size_t)l->n * sizeof *grown, (size_t)cap * sizeof *grown);
        if (!grown) return CN_ENOMEM;
        l->names = grown;
        l->cap = cap;
    }
    l->names[l->n++] = (char *)(uintptr_t)l->text.len; /* an offset until the text stands still */
    if (*folder) cn_str_addf(&l->text, "%s/", folder);
    cn_str_add(&l->text, name, strlen(name) + 1);
    return l->text.failed ? cn_fail(w->ctx, CN_ENOMEM, "no memory for a folder's names") : CN_OK;
}

static cn_status read_folder(walk *w, int depth);

static cn_status look_at(walk *w, const struct dirent *e, int depth)
{
    struct stat st;
    const size_t before = strlen(w->path);
    if (e->d_name[0] == '.') return CN_OK;
    const bool wanted = cn_has_ending(e->d_name, w->rules->endings);
    if (!wanted && !w->rules->recursive) return CN_OK;
    CN_TRY(cn_format(w->ctx, w->path + before, sizeof w->path - before, "/%s", e->d_name));
    /* most file systems say what an entry is: no look at each of a million pictures */
    const bool plain = e->d_type == DT_REG;
    const bool folder = !plain && stat(w->path, &st) == 0 && S_ISDIR(st.st_mode);
    const bool skip =
        folder && w->has_except && st.st_dev == w->except.st_dev && st.st_ino == w->except.st_ino;
    if (folder && w->rules->recursive && !skip && read_folder(w, depth + 1) != CN_OK)
        cn_log(w->ctx, CN_LOG_WARN, "%s (left out)", cn_error(w->ctx));
    w->path[before] = w->path[before + 1] = 0;
    return wanted && !folder ? add(w, e->d_name) : CN_OK;
}

static cn_status read_folder(walk *w, int depth)
{
    char reason[128];
    if (depth > MAX_DEPTH)
        return cn_fail(w->ctx, CN_EIO, "%s: folders are nested more than %d deep", w->path,
                       MAX_DEPTH);
    DIR *d = opendir(w->path);
    if (!d)
        return cn_fail(w->ctx, CN_EIO, "%s: can't read the folder: %s", w->path,
                       strerror_r(errno, reason, sizeof reason));
    cn_status s = CN_OK;
    for (struct dirent *e; s == CN_OK && (e = readdir(d));) s = look_at(w, e, depth);
    closedir(d);
    return s;
}

int cn_stem_compare(const char *x, const char *y)
{
    const size_t n = cn_stem_length(x), m = cn_stem_length(y);
    const int order = memcmp(x, y, CN_MIN(n, m));
    return order ? order : (n > m) - (n < m);
}

static int by_stem(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const int order = cn_stem_compare(x, y);
    return order ? order : strcmp(x, y);
}

cn_status cn_listing_read(cn_ctx *ctx, const char *dir, const cn_listing_rules *rules,
                          cn_listing *out)
{
    cn_listing list = {0};
    walk w = {.ctx = ctx, .rules = rules, .out = &list};
    cn_status s = cn_format(ctx, w.path, sizeof w.path, "%s", dir);
    for (size_t n = strlen(w.path); n > 1 && w.path[n - 1] == '/';) w.path[--n] = 0;
    w.root = strlen(w.path) + 1;
    w.path[CN_MIN(w.root, sizeof w.path - 1)] = 0;
    w.has_except = rules->except && stat(rules->except, &w.except) == 0;
    if (s == CN_OK) s = read_folder(&w, 0);
    if (s != CN_OK) {
        cn_listing_free(&list);
        return s;
    }
    for (int64_t i = 0; i < list.n; i++) list.names[i] = list.text.data + (uintptr_t)list.names[i];
    if (list.n) qsort(list.names, (size_t)list.n, sizeof *list.names, by_stem);
    *out = list;
    return CN_OK;
}

void cn_listing_free(cn_listing *l)
{
    cn_str_free(&l->text);
    cn_free(l->names);
    *l = (cn_listing){0};
}
