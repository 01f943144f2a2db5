/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - what the server's folders hold.
 *
 * Folders are read anew for each list; what a file is and its hash are remembered by its time and
 * size.
 */
#include "server/models.h"

#include "server/sha256.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const endings[] = {".safetensors", ".pth", ".ckpt", ".pt", ".bin", NULL};
static const char weights_name[] = "diffusion_pytorch_model.safetensors";

typedef struct known {
    char *path;
    time_t time;
    off_t bytes;
    bool is_control;
    char hash[9];
    struct known *next;
} known;

struct models {
    pthread_mutex_t lock;
    const char *const *dirs;
    known *first;
};

models *models_open(const char *const *dirs)
{
    models *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->dirs = dirs;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void models_close(models *m)
{
    if (!m) return;
    for (known *k = m->first, *next; k; k = next) {
        next = k->next;
        free(k->path);
        free(k);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* --- files ------------------------------------------------------------------------------------ */

static const char *ending_of(const char *name)
{
    const size_t n = strlen(name);
    for (int i = 0; endings[i]; i++) {
        const size_t e = strlen(endings[i]);
        if (n > e && strcasecmp(name + n - e, endings[i]) == 0) return endings[i];
    }
    return NULL;
}

void models_name_of(const char *path, char *out, size_t cap)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    snprintf(out, cap, "%.*s", (int)(n - from), path + from);
    const char *end = ending_of(out);
    if (end) out[strlen(out) - strlen(end)] = 0;
}

/* The file whose bytes tell a folder of diffusers' from another. */
static bool weights_of(const char *path, char out[CN_PATH_BYTES], struct stat *st)
{
    if (stat(path, st) != 0) return false;
    int n = S_ISDIR(st->st_mode) ? snprintf(out, CN_PATH_BYTES, "%s/%s", path, weights_name)
                                 : snprintf(out, CN_PATH_BYTES, "%s", path);
    return n > 0 && n < CN_PATH_BYTES && stat(out, st) == 0 && S_ISREG(st->st_mode);
}

/* 64 KiB from 1 MiB on; of a shorter file what there is. */
bool models_short_hash(const char *path, char out[9])
{
    enum { FROM = 0x100000, BYTES = 0x10000 };
    char file[CN_PATH_BYTES];
    uint8_t hash[SHA256_BYTES];
    struct stat st;
    if (!weights_of(path, file, &st)) return false;
    FILE *f = fopen(file, "rbe");
    char *bytes = f ? malloc(BYTES) : NULL;
    const bool good = bytes && fseek(f, FROM, SEEK_SET) == 0;
    if (good) {
        sha256(bytes, fread(bytes, 1, BYTES, f), hash);
        snprintf(out, 9, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
    }
    free(bytes);
    if (f) fclose(f);
    return good;
}

static bool holds_control(const char *path)
{
    cn_ctx *ctx = cn_ctx_create(1);
    char *text = NULL;
    bool is = false;
    if (ctx && cn_inspect(ctx, path, true, &text) == CN_OK) {
        json_t *value = json_loads(text, 0, NULL);
        const char *layout = json_string_value(json_object_get(value, "layout"));
        is = layout && strstr(layout, "ControlNet");
        json_decref(value);
    }
    cn_free(text);
    cn_ctx_destroy(ctx);
    return is;
}

/* Under the lock; NULL: no weights. */
static const known *look(models *m, const char *path)
{
    char file[CN_PATH_BYTES];
    struct stat st;
    if (!weights_of(path, file, &st)) return NULL;
    known *k = m->first;
    while (k && strcmp(k->path, path) != 0) k = k->next;
    if (k && k->time == st.st_mtime && k->bytes == st.st_size) return k;
    if (!k) {
        k = calloc(1, sizeof *k);
        if (!k || !(k->path = strdup(path))) {
            free(k);
            return NULL;
        }
        k->next = m->first;
        m->first = k;
    }
    k->time = st.st_mtime;
    k->bytes = st.st_size;
    k->is_control = holds_control(path) && models_short_hash(path, k->hash);
    return k;
}

/* --- lists ------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* Entries of a folder, sorted; *count of them. Each and the list: free. */
static char **entries_of(const char *dir, int *count)
{
    DIR *d = opendir(dir);
    char **list = NULL;
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char **more = e->d_name[0] == '.' ? NULL : realloc(list, ((size_t)n + 1) * sizeof *list);
        if (!more) continue;
        list = more;
        if ((list[n] = strdup(e->d_name))) n++;
    }
    if (d) closedir(d);
    if (n) qsort(list, (size_t)n, sizeof *list, by_name);
    *count = n;
    return list;
}

static void add_controls(models *m, const char *dir, json_t *out)
{
    int n = 0;
    char **names = entries_of(dir, &n), path[CN_PATH_BYTES], name[256], title[272];
    for (int i = 0; i < n; i++) {
        const int length = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        const known *k = length > 0 && length < (int)sizeof path ? look(m, path) : NULL;
        free(names[i]);
        if (!k || !k->is_control) continue;
        models_name_of(path, name, sizeof name);
        snprintf(title, sizeof title, "%s [%s]", name, k->hash);
        json_array_append_new(
            out, json_pack("{s:s, s:s, s:s}", "name", name, "title", title, "path", path));
    }
    free(names);
}

/* A folder may be a ControlNet itself. */
json_t *models_list(models *m)
{
    json_t *list = json_array();
    char name[256], title[272];
    pthread_mutex_lock(&m->lock);
    for (int i = 0; m->dirs && m->dirs[i]; i++) {
        const known *k = look(m, m->dirs[i]);
        if (!k || !k->is_control) {
            add_controls(m, m->dirs[i], list);
            continue;
        }
        models_name_of(m->dirs[i], name, sizeof name);
        snprintf(title, sizeof title, "%s [%s]", name, k->hash);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s}", "name", name, "title", title, "path", m->dirs[i]));
    }
    pthread_mutex_unlock(&m->lock);
    return list;
}

char *models_find(models *m, const char *name)
{
    json_t *list = models_list(m), *one;
    size_t i;
    char *path = NULL;
    json_array_foreach(list, i, one)
    {
        const char *title = json_string_value(json_object_get(one, "title"));
        const char *plain = json_string_value(json_object_get(one, "name"));
        if (path || (strcasecmp(title, name) != 0 && strcasecmp(plain, name) != 0)) continue;
        path = strdup(json_string_value(json_object_get(one, "path")));
    }
    json_decref(list);
    return path;
}

void models_names(models *m, char *out, size_t cap)
{
    json_t *list = models_list(m), *one;
    size_t i, n = 0;
    snprintf(out, cap, "none");
    json_array_foreach(list, i, one)
    {
        const char *title = json_string_value(json_object_get(one, "title"));
        if (n < cap) n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "", title);
    }
    json_decref(list);
}

json_t *models_files(const char *dir)
{
    json_t *list = json_array();
    int n = 0;
    char **names = dir ? entries_of(dir, &n) : NULL, name[256];
    for (int i = 0; i < n; i++) {
        models_name_of(names[i], name, sizeof name);
        if (ending_of(names[i])) json_array_append_new(list, json_string(name));
        free(names[i]);
    }
    free(names);
    return list;
}

json_t *models_folders(const char *dir)
{
    json_t *list = json_array();
    int n = 0;
    char **names = dir ? entries_of(dir, &n) : NULL, path[CN_PATH_BYTES];
    struct stat st;
    for (int i = 0; i < n; i++) {
        const int length = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (length > 0 && length < (int)sizeof path && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            json_array_append_new(list, json_string(names[i]));
        free(names[i]);
    }
    free(names);
    return list;
}
