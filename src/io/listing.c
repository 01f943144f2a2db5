/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - see listing.h. */
#include "io/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 32 };

const char *const cn_picture_endings[] = {".png", ".jpg",  ".jpeg", ".webp", ".bmp", ".gif",
                                          ".tif", ".tiff", ".avif", ".jxl",  NULL};

typedef struct folder_id {
    dev_t device;
    ino_t inode;
} folder_id;

typedef struct walk {
    cn_ctx *ctx;
    const cn_listing_rules *rules;
    cn_listing *out;
    bool has_except;
    struct stat except;
    char path[CN_PATH_BYTES]; /* of the folder at hand */
    size_t root;              /* length of the first one's path and its '/' */
    cn_str folders;           /* folder_id of each one read */
    cn_str links; /* paths of links to folders, 0-terminated, in the order they were met */
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

/* Has this folder been read, under whatever name? */
static bool was_read(const walk *w, const struct stat *st)
{
    const folder_id *seen = (const folder_id *)w->folders.data;
    const size_t n = w->folders.len / sizeof *seen;
    for (size_t i = 0; i < n; i++)
        if (seen[i].device == st->st_dev && seen[i].inode == st->st_ino) return true;
    return false;
}

static cn_status look_at(walk *w, const struct dirent *e, int depth)
{
    struct stat st, own;
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
    cn_status s = CN_OK;
    if (folder && w->rules->recursive && !skip) {
        if (lstat(w->path, &own) == 0 && S_ISLNK(own.st_mode)) {
            cn_str_add(&w->links, w->path, strlen(w->path) + 1);
            if (w->links.failed) s = cn_fail(w->ctx, CN_ENOMEM, "no memory for a folder's names");
        } else {
            s = read_folder(w, depth + 1);
        }
    }
    w->path[before] = w->path[before + 1] = 0;
    return s == CN_OK && wanted && !folder ? add(w, e->d_name) : s;
}

/* A folder below the first that can't be opened is named and left out; one whose reading fails in
 * the middle ends the listing, since it would lose pictures without a word. */
static cn_status read_folder(walk *w, int depth)
{
    struct stat st;
    cn_dir *d = NULL;
    const struct dirent *e = NULL;
    if (depth > MAX_DEPTH) {
        cn_log(w->ctx, CN_LOG_WARN, "%s: folders are nested more than %d deep (left out)", w->path,
               MAX_DEPTH);
        return CN_OK;
    }
    cn_status s = cn_dir_open(w->ctx, w->path, &d);
    if (s == CN_EIO && depth) {
        cn_log(w->ctx, CN_LOG_WARN, "%s (left out)", cn_error(w->ctx));
        return CN_OK;
    }
    if (s == CN_OK && stat(w->path, &st) == 0) {
        const folder_id id = {.device = st.st_dev, .inode = st.st_ino};
        cn_str_add(&w->folders, (const char *)&id, sizeof id);
        if (w->folders.failed) s = cn_fail(w->ctx, CN_ENOMEM, "no memory for a folder's names");
    }
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e) s = look_at(w, e, depth);
    cn_dir_close(d);
    return s;
}

/* Links to folders come last: one to a folder that has been read already, or that it stands in
 * (which would be walked for ever), is named and left out. */
static cn_status read_links(walk *w)
{
    struct stat st;
    cn_status s = CN_OK;
    for (size_t at = 0; s == CN_OK && at < w->links.len; at += strlen(w->links.data + at) + 1) {
        s = cn_format(w->ctx, w->path, sizeof w->path - 1, "%s", w->links.data + at);
        if (s != CN_OK) break;
        w->path[strlen(w->path) + 1] = 0;
        if (stat(w->path, &st) == 0 && was_read(w, &st))
            cn_log(w->ctx, CN_LOG_WARN, "%s: a link to a folder that is read already (left out)",
                   w->path);
        else
            s = read_folder(w, 1);
    }
    return s;
}

int cn_stem_compare(const char *a, const char *b)
{
    const size_t n = cn_stem_length(a), m = cn_stem_length(b);
    const int order = memcmp(a, b, CN_MIN(n, m));
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
    if (s == CN_OK) s = read_links(&w);
    cn_str_free(&w.folders);
    cn_str_free(&w.links);
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
