/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - what the server's folders hold.
 *
 * Folders are read anew for each list; what a file is and its hash are remembered by its time and
 * size.
 */
#include "server/models.h"

#include "io/json_text.h"
#include "server/sha256.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const endings[] = {".safetensors", ".pth", ".ckpt", ".pt", ".bin", NULL};
/* Of a folder: a ControlNet's weights; a base model's; what says that it is one, its weights
 * whatever they are called. */
static const char *const weights_names[] = {"diffusion_pytorch_model.safetensors",
                                            "unet/diffusion_pytorch_model.safetensors",
                                            "model_index.json", NULL};

typedef struct known {
    char *path;
    time_t time;
    off_t bytes;
    bool is_control, is_base;
    char hash[9]; /* "" where it has none */
    struct known *next;
} known;

struct models {
    pthread_mutex_t lock;
    const char *const *bases, *const *dirs;
    char *chosen; /* path of a base model; NULL: the first */
    known *first;
};

models *models_open(const char *const *bases, const char *const *dirs)
{
    models *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->bases = bases;
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
    free(m->chosen);
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

static bool is_file(const char *path, struct stat *st)
{
    return stat(path, st) == 0 && S_ISREG(st->st_mode);
}

/* The file whose bytes tell a folder of diffusers' from another. */
static bool weights_of(const char *path, char out[CN_PATH_BYTES], struct stat *st)
{
    if (stat(path, st) != 0) return false;
    if (!S_ISDIR(st->st_mode))
        return snprintf(out, CN_PATH_BYTES, "%s", path) < CN_PATH_BYTES && is_file(out, st);
    for (int i = 0; weights_names[i]; i++)
        if (snprintf(out, CN_PATH_BYTES, "%s/%s", path, weights_names[i]) < CN_PATH_BYTES &&
            is_file(out, st))
            return true;
    return false;
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

/* A file may hold both: a base model, and a network that drawings are steered with. */
static void find_kind(known *k)
{
    static const char *const kinds[] = {"ControlNet", "Control-LoRA", "T2I-Adapter", "IP-Adapter",
                                        NULL};
    cn_ctx *ctx = cn_ctx_create(1);
    char *text = NULL;
    k->is_control = k->is_base = false;
    if (ctx && cn_inspect(ctx, k->path, true, &text) == CN_OK) {
        json_t *value = cn_json_parse_string(text, 0);
        const char *layout = json_string_value(json_object_get(value, "layout"));
        for (int i = 0; layout && kinds[i] && !k->is_control; i++)
            k->is_control = strstr(layout, kinds[i]) != NULL;
        k->is_base = layout && strstr(layout, "base model");
        json_decref(value);
    }
    cn_free(text);
    cn_ctx_destroy(ctx);
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
    find_kind(k);
    k->hash[0] = 0;
    if (k->is_control || k->is_base) models_short_hash(path, k->hash);
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

typedef bool (*known_test)(const known *k);

static bool holds_control(const known *k)
{
    return k && k->is_control && k->hash[0];
}

static bool holds_base(const known *k)
{
    return k && k->is_base;
}

/* k may be NULL: a path that is taken at its word. */
static void add_one(const char *path, const known *k, json_t *out)
{
    char name[256], title[272];
    const char *hash = k ? k->hash : "";
    models_name_of(path, name, sizeof name);
    snprintf(title, sizeof title, *hash ? "%s [%s]" : "%s%s", name, hash);
    json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "title", title,
                                         "hash", hash, "path", path));
}

/* Those in a folder. */
static void add_folder(models *m, const char *dir, known_test is, json_t *out)
{
    int n = 0;
    char **names = entries_of(dir, &n), path[CN_PATH_BYTES];
    for (int i = 0; i < n; i++) {
        const int length = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        const known *k = length > 0 && length < (int)sizeof path ? look(m, path) : NULL;
        free(names[i]);
        if (is(k)) add_one(path, k, out);
    }
    free(names);
}

/* A path may be one itself. */
static json_t *list_all(models *m, const char *const *paths, known_test is)
{
    json_t *list = json_array();
    for (int i = 0; paths && paths[i]; i++) {
        const known *k = look(m, paths[i]);
        if (is(k))
            add_one(paths[i], k, list);
        else
            add_folder(m, paths[i], is, list);
    }
    return list;
}

json_t *models_list(models *m)
{
    pthread_mutex_lock(&m->lock);
    json_t *list = list_all(m, m->dirs, holds_control);
    pthread_mutex_unlock(&m->lock);
    return list;
}

/* Whether an entry is called so. */
static bool is_called(const json_t *one, const char *name)
{
    return strcasecmp(json_string_value(json_object_get(one, "title")), name) == 0 ||
           strcasecmp(json_string_value(json_object_get(one, "name")), name) == 0;
}

static json_t *find(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (is_called(json_array_get(list, i), name)) return json_array_get(list, i);
    return NULL;
}

static void join_titles(const json_t *list, char *out, size_t cap)
{
    size_t n = 0;
    snprintf(out, cap, "none");
    for (size_t i = 0; i < json_array_size(list) && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "",
                              json_string_value(json_object_get(json_array_get(list, i), "title")));
}

char *models_find(models *m, const char *name)
{
    json_t *list = models_list(m);
    const json_t *one = find(list, name);
    char *path = one ? strdup(json_string_value(json_object_get(one, "path"))) : NULL;
    json_decref(list);
    return path;
}

void models_names(models *m, char *out, size_t cap)
{
    json_t *list = models_list(m);
    join_titles(list, out, cap);
    json_decref(list);
}

/* --- base models ------------------------------------------------------------------------------ */

/* The only path that was given is a model at its word, so that opening it says what is wrong. */
json_t *models_bases(models *m)
{
    pthread_mutex_lock(&m->lock);
    json_t *list = list_all(m, m->bases, holds_base);
    if (!json_array_size(list) && m->bases && m->bases[0]) add_one(m->bases[0], NULL, list);
    pthread_mutex_unlock(&m->lock);
    return list;
}

const char *models_stray_base(models *m)
{
    const char *stray = NULL;
    pthread_mutex_lock(&m->lock);
    for (int i = 0; m->bases && m->bases[i] && !stray; i++) {
        const char *const one[] = {m->bases[i], NULL};
        json_t *list = list_all(m, one, holds_base);
        if (!json_array_size(list)) stray = m->bases[i];
        json_decref(list);
    }
    pthread_mutex_unlock(&m->lock);
    return stray;
}

static json_t *chosen_of(models *m, const json_t *list)
{
    json_t *found = json_array_get(list, 0);
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; m->chosen && i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(one, "path")), m->chosen) == 0) found = one;
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

json_t *models_base(models *m, const char *name)
{
    json_t *list = models_bases(m);
    json_t *one = name && *name ? find(list, name) : chosen_of(m, list);
    json_incref(one);
    json_decref(list);
    return one;
}

bool models_choose_base(models *m, const char *name)
{
    json_t *one = models_base(m, name);
    char *path = one ? strdup(json_string_value(json_object_get(one, "path"))) : NULL;
    json_decref(one);
    if (!path) return false;
    pthread_mutex_lock(&m->lock);
    free(m->chosen);
    m->chosen = path;
    pthread_mutex_unlock(&m->lock);
    return true;
}

void models_base_names(models *m, char *out, size_t cap)
{
    json_t *list = models_bases(m);
    join_titles(list, out, cap);
    json_decref(list);
}

/* --- other lists ------------------------------------------------------------------------------ */

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
