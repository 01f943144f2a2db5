/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - saving whole folders atomically, and resuming from them. */
#include "train/checkpoint.h"

#include "base/sys.h"
#include "io/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char prefix[] = "checkpoint-", drawings_prefix[] = "step_";
static const char saving_prefix[] = ".saving-", old_mark[] = ".old-"; /* then the run's id */
#define RUN_FILE "run.json"

/* --- folders ---------------------------------------------------------------------------------- */

/* A checkpoint's folder with all in it, which is in nobody's way where it can't be removed. */
static void remove_tree(const char *dir)
{
    const cn_status s = cn_dir_remove(NULL, dir);
    (void)s;
}

/* N of "checkpoint-N", or of another prefix; -1 for any other name. */
static int64_t number_behind(const char *name, const char *before)
{
    if (strncmp(name, before, strlen(before)) != 0) return -1;
    const char *digits = name + strlen(before);
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 15)
        return -1;
    return strtoll(digits, NULL, 10);
}

/* Calls `see` for the N of every folder "PREFIXN" in dir; a folder that isn't there has none. */
static cn_status each_number(cn_ctx *ctx, const char *dir, const char *before,
                             void (*see)(void *user, const char *name, int64_t n), void *user)
{
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    if (!cn_dir_exists(dir)) return CN_OK;
    cn_status s = cn_dir_open(ctx, dir, &d);
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e) {
        const int64_t n = number_behind(e->d_name, before);
        if (n >= 0) see(user, e->d_name, n);
    }
    cn_dir_close(d);
    return s;
}

/* Checkpoints: how many, the least and the largest N below a bound (-1: none). */
typedef struct numbers {
    int64_t bound, n, oldest, newest;
} numbers;

static void count(void *user, const char *name, int64_t n)
{
    numbers *all = user;
    (void)name;
    if (n >= all->bound) return;
    if (!all->n++ || n < all->oldest) all->oldest = n;
    all->newest = CN_MAX(all->newest, n);
}

static cn_status count_checkpoints(cn_ctx *ctx, const char *dir, int64_t bound, numbers *out)
{
    *out = (numbers){.bound = bound, .oldest = -1, .newest = -1};
    return each_number(ctx, dir, prefix, count, out);
}

/* What a killed run was writing. A checkpoint that was moved aside and not yet replaced is put
 * back. The folder is locked: none of it is of a run that goes on. */
static cn_status clear_leftovers(cn_ctx *ctx, const char *dir)
{
    char path[CN_PATH_BYTES + 256], back[CN_PATH_BYTES + 256];
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    cn_status s = cn_dir_open(ctx, dir, &d);
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e) {
        const char *old = strstr(e->d_name, old_mark);
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strncmp(e->d_name, saving_prefix, sizeof saving_prefix - 1) == 0) remove_tree(path);
        if (!old || strncmp(e->d_name, prefix, sizeof prefix - 1) != 0) continue;
        snprintf(back, sizeof back, "%s/%.*s", dir, (int)(old - e->d_name), e->d_name);
        if (cn_dir_exists(back) || cn_sys_rename(path, back) != 0) remove_tree(path);
    }
    cn_dir_close(d);
    return s;
}

cn_status cn_checkpoint_lock(cn_ctx *ctx, const char *dir, cn_dir_lock **out)
{
    cn_dir_lock *lock = NULL;
    CN_TRY(cn_dir_lock_take(ctx, dir, &lock));
    const cn_status s = clear_leftovers(ctx, dir);
    if (s == CN_OK)
        *out = lock;
    else
        cn_dir_lock_drop(lock);
    return s;
}

cn_status cn_checkpoint_try_dir(cn_ctx *ctx, const char *dir, size_t bytes)
{
    char path[CN_PATH_BYTES];
    struct statvfs v;
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/.write-test", dir));
    CN_TRY(cn_file_write(ctx, path, "", 0));
    cn_sys_unlink(path);
    if (statvfs(dir, &v) != 0) return CN_OK; /* no answer: the saves will tell */
    const uint64_t room = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    if (room >= bytes) return CN_OK;
    return cn_fail(ctx, CN_EIO, "%s: %llu MB are free, one save takes %llu MB", dir,
                   (unsigned long long)(room >> 20), (unsigned long long)(bytes >> 20));
}

size_t cn_checkpoint_bytes(const cn_checkpoint *c)
{
    size_t bytes = 1 << 20;
    for (int64_t i = 0; i < cn_params_count(c->control); i++) /* two layouts, two moments */
        bytes += 4 * (size_t)cn_param_elements(cn_params_at(c->control, i)) * sizeof(float);
    return bytes;
}

/* --- saving ----------------------------------------------------------------------------------- */

/* metadata: of a checkpoint's files; NULL for a result's. */
static cn_status save_control(const cn_checkpoint *c, const char *dir, const char *const *metadata)
{
    return cn_trained_save(c->ctx, c->be, c->net, c->control, dir, metadata);
}

/* dir/base.safetensors: one file, since a checkpoint has no folders in it. */
static cn_status save_base(const cn_checkpoint *c, const char *dir, const char *const *metadata)
{
    char path[CN_PATH_BYTES];
    if (!c->unet) return CN_OK;
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/" CN_TRAIN_BASE_FILE, dir));
    const cn_base_target to = {.path = path, .single = true, .dtype = CN_F32, .more = metadata};
    return cn_base_save(c->ctx, c->be, c->base, c->unet, &to);
}

cn_status cn_checkpoint_save_result(const cn_checkpoint *c, const char *dir)
{
    char path[CN_PATH_BYTES];
    CN_TRY(save_control(c, dir, NULL));
    CN_TRY(save_base(c, dir, NULL));
    if (!c->unet) return CN_OK;
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/base", dir));
    const cn_base_target to = {.path = path, .dtype = CN_F32, .tokenizer_dir = c->tokenizer_dir};
    return cn_base_save(c->ctx, c->be, c->base, c->unet, &to);
}

static cn_status save_optimizer(const cn_checkpoint *c, const char *dir,
                                const char *const *metadata)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/" CN_TRAIN_OPTIMIZER_FILE, dir));
    return cn_adamw_save_with(c->ctx, c->adamw, path, metadata);
}

/* For file systems that can't exchange two names: moves the old folder aside first. */
static cn_status replace_in_turn(const cn_checkpoint *c, const char *dir, const char *path,
                                 const char *run_id)
{
    char old[CN_PATH_BYTES];
    CN_TRY(cn_format(c->ctx, old, sizeof old, "%s%s%s", path, old_mark, run_id));
    if (cn_sys_rename(path, old) != 0) return cn_fail_io(c->ctx, "replace", path, errno);
    if (cn_sys_rename(dir, path) != 0) {
        const int error = errno;
        if (cn_sys_rename(old, path) != 0) return cn_fail_io(c->ctx, "put back", path, errno);
        return cn_fail_io(c->ctx, "write", path, error);
    }
    CN_TRY(cn_sync_parent(c->ctx, path)); /* before the old one loses its files */
    remove_tree(old);
    return CN_OK;
}

/* dir takes the place of `path`, which may exist from an earlier run. At no moment is neither
 * there. */
static cn_status put_in_place(const cn_checkpoint *c, const char *dir, const char *path,
                              const char *run_id)
{
    if (!cn_dir_exists(path)) {
        if (cn_sys_rename(dir, path) != 0) return cn_fail_io(c->ctx, "write", path, errno);
        return cn_sync_parent(c->ctx, path);
    }
    if (cn_sys_exchange(dir, path) != 0) return replace_in_turn(c, dir, path, run_id);
    CN_TRY(cn_sync_parent(c->ctx, path));
    remove_tree(dir);
    return CN_OK;
}

/* Removes the oldest beyond the limit, each under another name first: half of one is no
 * checkpoint. */
static cn_status prune(const cn_checkpoint *c, int64_t newest, int64_t limit, const char *dir)
{
    char path[CN_PATH_BYTES];
    numbers all;
    while (limit > 0) {
        CN_TRY(count_checkpoints(c->ctx, c->output_dir, INT64_MAX, &all));
        if (all.n <= limit || all.oldest >= newest) break;
        CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/%s%lld", c->output_dir, prefix,
                         (long long)all.oldest));
        if (cn_sys_rename(path, dir) != 0) break;
        CN_TRY(cn_sync_parent(c->ctx, path));
        remove_tree(dir);
    }
    return CN_OK;
}

/* Rank 0 writes; the others have their part in the optimizer's file alone. */
cn_status cn_checkpoint_save(const cn_checkpoint *c, const cn_train_state *state, int64_t limit,
                             char path[CN_PATH_BYTES])
{
    char dir[CN_PATH_BYTES], target[CN_PATH_BYTES];
    cn_run_mark mark = {0};
    const bool writes = cn_ranks_rank(c->ranks) == 0;
    path[0] = 0;
    cn_run_mark_fill(state, &mark);
    CN_TRY(cn_format(c->ctx, target, sizeof target, "%s/%s%lld", c->output_dir, prefix,
                     (long long)state->step));
    CN_TRY(
        cn_format(c->ctx, dir, sizeof dir, "%s/%s%s", c->output_dir, saving_prefix, state->run_id));
    if (writes) remove_tree(dir);
    cn_status s = writes ? save_control(c, dir, mark.metadata) : CN_OK;
    if (s == CN_OK && writes) s = save_base(c, dir, mark.metadata);
    s = cn_ranks_agree(c->ranks, s);
    if (s == CN_OK) {
        s = save_optimizer(c, dir, mark.metadata);
        if (s == CN_OK && writes) s = cn_train_state_save(c->ctx, dir, state);
        if (s == CN_OK && writes) s = put_in_place(c, dir, target, state->run_id);
        if (s == CN_OK && writes) memcpy(path, target, sizeof target);
        /* fails where a rank was lost, be the folder whole or not */
        s = cn_ranks_agree(c->ranks, s);
        if (s == CN_OK) memcpy(path, target, sizeof target);
    }
    if (!writes) return s;
    if (s == CN_OK) return prune(c, state->step, limit, dir);
    remove_tree(dir);
    return s;
}

/* --- resuming --------------------------------------------------------------------------------- */

/* The id of the run that the folder is of, "" where it doesn't say. */
static cn_status read_run(cn_ctx *ctx, const char *dir, char id[CN_RUN_ID_BYTES])
{
    char path[CN_PATH_BYTES];
    json_t *json = NULL;
    id[0] = 0;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/" RUN_FILE, dir));
    if (!cn_file_exists(path)) return CN_OK;
    CN_TRY(cn_json_load_file(ctx, path, &json));
    snprintf(id, CN_RUN_ID_BYTES, "%s", cn_json_str(json, "run_id", ""));
    json_decref(json);
    return CN_OK;
}

/* A checkpoint of before there were runs belongs to the one of its folder: a new one there would
 * have been refused, or have removed it. */
static cn_status adopt(cn_ctx *ctx, const char *run, cn_train_state *state)
{
    if (!run[0]) return cn_run_id_create(ctx, state->run_id);
    memcpy(state->run_id, run, CN_RUN_ID_BYTES);
    return CN_OK;
}

/* A whole checkpoint that is of another run than its folder is passed over as a damaged one is. */
static cn_status read_own(cn_ctx *ctx, const char *path, const char *run, cn_train_state *state)
{
    CN_TRY(cn_train_state_read(ctx, path, state));
    if (!state->run_id[0]) return adopt(ctx, run, state);
    if (!run[0] || strcmp(state->run_id, run) == 0) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "%s: of run %s, the folder is of run %s", path, state->run_id,
                   run);
}

/* The newest checkpoint of this run that is whole; each that isn't is named. */
static cn_status find_newest(cn_ctx *ctx, const char *output_dir, char path[CN_PATH_BYTES],
                             cn_train_state *state)
{
    char first[1024] = "", run[CN_RUN_ID_BYTES];
    CN_TRY(read_run(ctx, output_dir, run));
    for (numbers all = {.newest = INT64_MAX};;) {
        CN_TRY(count_checkpoints(ctx, output_dir, all.newest, &all));
        if (all.newest < 0) break;
        CN_TRY(cn_format(ctx, path, CN_PATH_BYTES, "%s/%s%lld", output_dir, prefix,
                         (long long)all.newest));
        const cn_status s = read_own(ctx, path, run, state);
        if (s == CN_OK || s == CN_ENOMEM) return s;
        if (!first[0]) snprintf(first, sizeof first, "%s", cn_error(ctx));
        cn_log(ctx, CN_LOG_WARN, "%s; an older checkpoint is looked for", cn_error(ctx));
    }
    path[0] = 0;
    if (!first[0]) return CN_OK;
    return cn_fail(
        ctx, CN_EFORMAT,
        "%s; no older checkpoint in %s is whole and of its run (with --overwrite instead "
        "of --resume-from-checkpoint training starts anew)",
        first, output_dir);
}

/* Whether a folder's parent is `dir`, whatever the two are called. */
static bool lies_in(const char *path, const char *dir)
{
    char parent[CN_PATH_BYTES + 4];
    struct stat a, b;
    snprintf(parent, sizeof parent, "%s/..", path);
    return stat(parent, &a) == 0 && stat(dir, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

cn_status cn_checkpoint_find(cn_ctx *ctx, const char *output_dir, const char *which,
                             char path[CN_PATH_BYTES], cn_train_state *state)
{
    if (strcmp(which, "latest") == 0) return find_newest(ctx, output_dir, path, state);
    CN_TRY(cn_format(ctx, path, CN_PATH_BYTES, "%s", which));
    if (!cn_dir_exists(path))
        CN_TRY(cn_format(ctx, path, CN_PATH_BYTES, "%s/%s", output_dir, which));
    if (cn_dir_exists(path)) {
        char run[CN_RUN_ID_BYTES];
        CN_TRY(cn_train_state_read(ctx, path, state));
        if (!lies_in(path, output_dir)) {
            state->run_id[0] = 0;
            return CN_OK;
        }
        CN_TRY(read_run(ctx, output_dir, run));
        return state->run_id[0] ? CN_OK : adopt(ctx, run, state);
    }
    return cn_fail(ctx, CN_EINVAL,
                   "--resume-from-checkpoint %s: no such folder, neither alone nor in %s", which,
                   output_dir);
}

/* --- another run's folder --------------------------------------------------------------------- */

cn_status cn_checkpoint_refuse_occupied(cn_ctx *ctx, const char *dir, const cn_train_state *state)
{
    char path[CN_PATH_BYTES];
    const bool anew = !state->run_id[0];
    numbers all;
    CN_TRY(count_checkpoints(ctx, dir, INT64_MAX, &all));
    const int64_t newest = all.newest;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/" CN_TRAINED_FILE, dir));
    if (anew && newest >= 0)
        return cn_fail(
            ctx, CN_EINVAL,
            "%s: holds %s%lld of an earlier run; --resume-from-checkpoint latest goes on "
            "with it, --overwrite begins anew in its place",
            dir, prefix, (long long)newest);
    if (anew && cn_file_exists(path))
        return cn_fail(ctx, CN_EINVAL,
                       "%s: holds the ControlNet of an earlier run; --overwrite begins anew in its "
                       "place, another --output-dir keeps both",
                       dir);
    if (anew || newest <= state->step) return CN_OK;
    return cn_fail(
        ctx, CN_EINVAL,
        "%s: holds %s%lld, from behind step %lld; --resume-from-checkpoint latest goes on "
        "with that, --overwrite removes what is behind",
        dir, prefix, (long long)newest, (long long)state->step);
}

typedef struct removal {
    const char *dir;
    int64_t after;
} removal;

static void remove_later(void *user, const char *name, int64_t n)
{
    const removal *r = user;
    char path[CN_PATH_BYTES + 256];
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    if (n > r->after) remove_tree(path);
}

cn_status cn_checkpoint_clear(cn_ctx *ctx, const char *dir, int64_t after)
{
    char drawings[CN_PATH_BYTES];
    removal r = {dir, after};
    CN_TRY(cn_format(ctx, drawings, sizeof drawings, "%s/validation", dir));
    CN_TRY(each_number(ctx, dir, prefix, remove_later, &r));
    r.dir = drawings;
    return each_number(ctx, drawings, drawings_prefix, remove_later, &r);
}

cn_status cn_checkpoint_claim(cn_ctx *ctx, const char *dir, const char *run_id)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/" RUN_FILE, dir));
    json_t *json = json_pack("{s:i, s:s}", "format", 1, "run_id", run_id);
    if (!json) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
    const cn_status s = cn_json_save_file(ctx, path, json);
    json_decref(json);
    return s;
}

cn_status cn_checkpoint_load(const cn_checkpoint *c, const char *path)
{
    char file[CN_PATH_BYTES];
    CN_TRY(cn_trained_load(c->ctx, c->net, c->base, c->be, path, c->control));
    if (c->unet) {
        CN_TRY(cn_format(c->ctx, file, sizeof file, "%s/" CN_TRAIN_BASE_FILE, path));
        CN_TRY(cn_base_load_saved(c->ctx, file, c->be, c->unet));
    }
    CN_TRY(cn_format(c->ctx, file, sizeof file, "%s/" CN_TRAIN_OPTIMIZER_FILE, path));
    return cn_adamw_load(c->adamw, file);
}
