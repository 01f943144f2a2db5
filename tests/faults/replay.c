/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - power loss at any moment of a training that saves.
 *
 * controlnet-faults records every change that a run makes to its files. Up to each of them the
 * folder is made as a disk may have it then: with what was synced alone; with names as they were
 * and what wasn't synced of files missing, as file systems do that write names first; and with all
 * of it. Then, as the program itself looks at it: a folder that is called checkpoint-N is whole,
 * and once one was saved, one at least as new is there.
 */
#include "../support/child.h"
#include "../support/tiny_base.h"
#include "record.h"
#include "train/checkpoint.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN_SECONDS = 120, PATH = 512 };

/* --- a disk ----------------------------------------------------------------------------------- */

typedef struct bytes {
    char *data;
    size_t n;
} bytes;

typedef struct node node;

typedef struct entry {
    char name[256];
    node *at;
} entry;

typedef struct names {
    entry *list;
    int n;
} names;

struct node {
    int64_t ino;
    bool folder;
    bytes now, synced;         /* of a file */
    names entries, synced_too; /* of a folder: as they are, and as the last fsync of it left them */
};

static node *new_node(bool folder, int64_t ino)
{
    node *x = calloc(1, sizeof *x);
    if (!x) abort();
    x->folder = folder;
    x->ino = ino;
    return x;
}

static entry *find(names *in, const char *name)
{
    for (int i = 0; i < in->n; i++)
        if (strcmp(in->list[i].name, name) == 0) return &in->list[i];
    return NULL;
}

static void put(names *in, const char *name, node *at)
{
    entry *e = find(in, name);
    if (!e) {
        in->list = realloc(in->list, (size_t)(in->n + 1) * sizeof *in->list);
        if (!in->list) abort();
        e = &in->list[in->n++];
        snprintf(e->name, sizeof e->name, "%s", name);
    }
    e->at = at;
}

static void take_out(names *in, const char *name)
{
    entry *e = find(in, name);
    if (e) *e = in->list[--in->n];
}

/* The folder that a path lies in, and the path's last part; NULL outside the disk. */
static node *folder_of(node *disk, const char *root, const char *path, const char **last)
{
    const size_t n = strlen(root);
    if (strncmp(path, root, n) != 0 || path[n] != '/') return NULL;
    node *at = disk;
    const char *p = path + n + 1;
    for (const char *slash; (slash = strchr(p, '/')); p = slash + 1) {
        char part[256];
        snprintf(part, sizeof part, "%.*s", (int)(slash - p), p);
        entry *e = find(&at->entries, part);
        if (!e || !e->at->folder) return NULL;
        at = e->at;
    }
    *last = p;
    return at;
}

static node *by_number(node *at, int64_t ino)
{
    node *found = NULL;
    if (!at->folder) return at->ino == ino ? at : NULL;
    for (int i = 0; !found && i < at->entries.n; i++)
        found = by_number(at->entries.list[i].at, ino);
    return found;
}

static void resize(bytes *b, size_t n)
{
    if (n > b->n) {
        b->data = realloc(b->data, n);
        if (!b->data) abort();
        memset(b->data + b->n, 0, n - b->n);
    }
    b->n = n;
}

static void copy(bytes *to, const bytes *from)
{
    to->n = 0;
    resize(to, from->n);
    if (from->n) memcpy(to->data, from->data, from->n);
}

/* --- the record ------------------------------------------------------------------------------- */

typedef struct change {
    record_head head;
    const char *path, *to, *data;
    char names[2][PATH];
} change;

static size_t next(const char *at, change *c)
{
    memcpy(&c->head, at, sizeof c->head);
    const char *p = at + sizeof c->head;
    snprintf(c->names[0], PATH, "%.*s", (int)c->head.path, p);
    snprintf(c->names[1], PATH, "%.*s", (int)c->head.to, p + c->head.path);
    c->path = c->names[0];
    c->to = c->names[1];
    c->data = p + c->head.path + c->head.to;
    return sizeof c->head + (size_t)(c->head.path + c->head.to) + (size_t)c->head.bytes;
}

static void open_file(node *folder, const char *name, const record_head *h)
{
    entry *e = find(&folder->entries, name);
    if (!e || e->at->ino != h->ino) put(&folder->entries, name, new_node(false, h->ino));
    if (h->at) find(&folder->entries, name)->at->now.n = 0;
}

static void move(node *from, const char *name, node *to, const char *new_name, bool exchange)
{
    entry *a = find(&from->entries, name), *b = find(&to->entries, new_name);
    if (!a) return;
    node *moved = a->at, *other = b ? b->at : NULL;
    if (exchange && other)
        a->at = other;
    else
        take_out(&from->entries, name);
    put(&to->entries, new_name, moved);
}

static void apply(node *disk, const char *root, const change *c)
{
    const char *name = NULL, *new_name = NULL;
    node *file = by_number(disk, c->head.ino), *to;
    node *folder = c->path[0] ? folder_of(disk, root, c->path, &name) : NULL;
    switch (c->head.op) {
    case RECORD_OPEN:
        if (folder) open_file(folder, name, &c->head);
        break;
    case RECORD_WRITE:
        if (!file) break;
        if (file->now.n < (size_t)(c->head.at + c->head.bytes))
            resize(&file->now, (size_t)(c->head.at + c->head.bytes));
        memcpy(file->now.data + c->head.at, c->data, (size_t)c->head.bytes);
        break;
    case RECORD_TRUNCATE:
        if (file) resize(&file->now, (size_t)c->head.at);
        break;
    case RECORD_SYNC:
        if (file) copy(&file->synced, &file->now);
        break;
    case RECORD_SYNC_DIR: {
        node *at = strcmp(c->path, root) == 0 ? disk : NULL;
        if (!at && folder && find(&folder->entries, name)) at = find(&folder->entries, name)->at;
        if (!at) break;
        at->synced_too.n = 0;
        for (int i = 0; i < at->entries.n; i++)
            put(&at->synced_too, at->entries.list[i].name, at->entries.list[i].at);
        break;
    }
    case RECORD_RENAME:
    case RECORD_EXCHANGE:
        to = folder_of(disk, root, c->to, &new_name);
        if (folder && to) move(folder, name, to, new_name, c->head.op == RECORD_EXCHANGE);
        break;
    case RECORD_MKDIR:
        if (folder && !find(&folder->entries, name)) put(&folder->entries, name, new_node(true, 0));
        break;
    case RECORD_UNLINK:
        if (folder) take_out(&folder->entries, name);
        break;
    default: break;
    }
}

/* --- what is there after it ------------------------------------------------------------------- */

typedef enum state { SYNCED, NAMES_FIRST, ALL, STATES } state;
static const char *const state_names[] = {"what was synced", "names without what wasn't synced",
                                          "all of it"};

static bool make(const node *at, const char *path, state s)
{
    if (!at->folder) {
        const bytes *b = s == ALL ? &at->now : &at->synced;
        FILE *f = fopen(path, "wb");
        const bool good = f && fwrite(b->data ? b->data : "", 1, b->n, f) == b->n;
        return f && fclose(f) == 0 && good;
    }
    bool good = cn_dir_make(NULL, path) == CN_OK;
    const names *in = s == SYNCED ? &at->synced_too : &at->entries;
    for (int i = 0; good && i < in->n; i++) {
        char below[PATH];
        snprintf(below, sizeof below, "%.200s/%.255s", path, in->list[i].name);
        good = make(in->list[i].at, below, s);
    }
    return good;
}

/* Every checkpoint-N is whole, and there is one from `least` on. */
static bool look(cn_ctx *ctx, const char *dir, int64_t least, char why[1024])
{
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    int64_t newest = -1;
    bool good = !cn_dir_exists(dir) || cn_dir_open(ctx, dir, &d) == CN_OK;
    snprintf(why, 1024, "%s", "");
    while (good && d && cn_dir_next(d, &e) == CN_OK && e) {
        char path[PATH + 256];
        cn_train_state found;
        if (strncmp(e->d_name, "checkpoint-", 11) != 0 || strchr(e->d_name, '.')) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        good = cn_train_state_read(ctx, path, &found) == CN_OK;
        if (good) newest = CN_MAX(newest, found.step);
        if (!good) snprintf(why, 1024, "%s", cn_error(ctx));
    }
    cn_dir_close(d);
    if (good && newest < least)
        snprintf(why, 1024, "the newest is %lld, %lld was saved", (long long)newest,
                 (long long)least);
    return good && newest >= least;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int test_all(cn_ctx *ctx, const char *root, const char *out, const char *record)
{
    char *text = NULL, why[1024], dir[PATH], kept[PATH];
    size_t n = 0;
    int passed = 0, failed = 0;
    int64_t renamed = -1, saved = -1;
    if (cn_file_read(ctx, record, 1 << 30, &text, &n) != CN_OK)
        return printf("%s\n", cn_error(ctx));
    static node *disk; /* until the program ends: names share what they point to */
    disk = new_node(true, 0);
    snprintf(dir, sizeof dir, "%.200s/disk", root);
    snprintf(kept, sizeof kept, "%.300s/out", dir);
    for (size_t at = 0; at < n;) {
        change c;
        at += next(text + at, &c);
        apply(disk, root, &c);
        const char *number = strstr(c.to, "/checkpoint-");
        if ((c.head.op == RECORD_RENAME || c.head.op == RECORD_EXCHANGE) && number)
            renamed = strtoll(number + 12, NULL, 10);
        if (c.head.op == RECORD_SYNC_DIR && strcmp(c.path, out) == 0) saved = renamed;
        if (c.head.op == RECORD_WRITE) continue; /* is lost until the file is synced */
        for (int s = 0; s < STATES; s++) {
            if (cn_dir_exists(dir)) tiny_dir_remove(dir);
            const bool good = make(disk, dir, (state)s) && look(ctx, kept, saved, why);
            passed += good;
            failed += !good;
            if (!good && failed < 10)
                printf("FAIL: power lost behind operation %lld on %s, of which the disk has %s: "
                       "%s\n",
                       (long long)c.head.op, c.path, state_names[s], why);
        }
    }
    if (saved < 0 && ++failed) printf("FAIL: nothing was saved\n");
    cn_free(text);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

static bool record_run(const char *root, const char *out, const char *record)
{
    char program[PATH_MAX], model[PATH], scenes[PATH];
    if (!test_find_beside("controlnet-faults", program)) return false;
    snprintf(model, sizeof model, "%.200s/model", root);
    snprintf(scenes, sizeof scenes, "%.200s/scenes", root);
    char *const argv[] = {program,
                          "train",
                          "-m",
                          model,
                          "--train-data-dir",
                          scenes,
                          "-o",
                          (char *)(uintptr_t)out,
                          "--resolution",
                          "16",
                          "--train-batch-size",
                          "2",
                          "--max-train-steps",
                          "4",
                          "--validation-steps",
                          "0",
                          "--checkpointing-steps",
                          "1",
                          "--checkpoints-total-limit",
                          "2",
                          "--threads",
                          "1",
                          "--use-ema",
                          NULL};
    setenv("CN_RECORD", record, 1);
    const bool good = test_wait(test_start(argv, -1), RUN_SECONDS) == 0;
    unsetenv("CN_RECORD");
    return good;
}

int main(void)
{
    char root[64], out[PATH], record[PATH], path[PATH];
    int status = 1;
    cn_ctx *ctx = cn_ctx_create(1);
    if (!ctx || !tiny_dir_make(root)) return 1;
    snprintf(out, sizeof out, "%s/out", root);
    snprintf(record, sizeof record, "%s/record", root);
    snprintf(path, sizeof path, "%s/model", root);
    bool good = tiny_base_write(ctx, path, 8) == CN_OK;
    snprintf(path, sizeof path, "%s/scenes", root);
    good = good && tiny_scenes_write(ctx, path, 4) == CN_OK;
    if (good && record_run(root, out, record))
        status = test_all(ctx, root, out, record);
    else
        printf("FAIL: the run itself\n0 passed, 1 failed\n");
    tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return status;
}
