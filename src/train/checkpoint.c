/* checkpoint.c - saving whole folders atomically, and resuming from them. */
#include "train/checkpoint.h"

#include "io/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static const char prefix[] = "checkpoint-";

static cn_status fail_path(cn_ctx *ctx, const char *what, const char *path, int error)
{
    char reason[128];
    return cn_fail(ctx, CN_EIO, "cannot %s \"%s\": %s", what, path,
                   strerror_r(error, reason, sizeof reason));
}

/* --- folders ------------------------------------------------------------------------------------ */

/* A folder without folders in it: all that a checkpoint is. */
static void remove_flat(const char *dir)
{
    char path[PATH_BYTES + 256];
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(dir);
}

/* Puts a rename in `dir` on disk. */
static void sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* N of "checkpoint-N", -1 for any other name. */
static int64_t number_of(const char *name)
{
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 15)
        return -1;
    return strtoll(digits, NULL, 10);
}

/* The number of checkpoints; the smallest and the largest N, -1 without any. */
static int64_t list_checkpoints(const char *dir, int64_t *oldest, int64_t *newest)
{
    int64_t n = 0;
    *oldest = *newest = -1;
    DIR *d = opendir(dir);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        const int64_t k = number_of(e->d_name);
        if (k < 0) continue;
        if (!n || k < *oldest) *oldest = k;
        if (!n || k > *newest) *newest = k;
        n++;
    }
    closedir(d);
    return n;
}

cn_status cn_checkpoint_try_dir(cn_ctx *ctx, const char *dir, size_t bytes)
{
    char path[PATH_BYTES];
    struct statvfs v;
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/.write-test", dir));
    CN_TRY(cn_file_write(ctx, path, "", 0));
    unlink(path);
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

/* --- saving ------------------------------------------------------------------------------------- */

cn_status cn_checkpoint_save_weights(const cn_checkpoint *c, const char *dir)
{
    char path[PATH_BYTES];
    CN_TRY(cn_control_save_folder(c->ctx, c->be, c->config, c->control, CN_F32, dir));
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/control.safetensors", dir));
    return cn_control_save_single(c->ctx, c->be, c->control, CN_F32, path);
}

static cn_status save_state(cn_ctx *ctx, const char *dir, const cn_train_state *state)
{
    char path[PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/trainer_state.json", dir));
    json_t *json =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I}", "format", 1, "step", (json_int_t)state->step,
                  "samples", (json_int_t)state->samples, "seed", (json_int_t)state->seed, "items",
                  (json_int_t)state->items, "learned_at_step", (json_int_t)state->learned_at_step);
    if (!json) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
    cn_status s = cn_json_save_file(ctx, path, json);
    json_decref(json);
    return s;
}

static cn_status fill_checkpoint(const cn_checkpoint *c, const char *dir,
                                 const cn_train_state *state)
{
    char path[PATH_BYTES];
    CN_TRY(cn_checkpoint_save_weights(c, dir));
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/optimizer.safetensors", dir));
    CN_TRY(cn_adamw_save_with(c->ctx, c->adamw, path));
    return save_state(c->ctx, dir, state);
}

/* dir takes the place of `path`, which may exist from an earlier run. */
static cn_status put_in_place(const cn_checkpoint *c, const char *dir, const char *path)
{
    char old[PATH_BYTES];
    CN_TRY(cn_format(c->ctx, old, sizeof old, "%s.old-%ld", path, (long)getpid()));
    const bool replaces = cn_dir_exists(path);
    if (replaces && rename(path, old) != 0) return fail_path(c->ctx, "replace", path, errno);
    if (rename(dir, path) != 0) {
        const int error = errno;
        if (replaces && rename(old, path) != 0) return fail_path(c->ctx, "put back", path, errno);
        return fail_path(c->ctx, "write", path, error);
    }
    if (replaces) remove_flat(old);
    sync_dir(c->output_dir);
    return CN_OK;
}

cn_status cn_checkpoint_save(const cn_checkpoint *c, const cn_train_state *state, int64_t limit,
                             char path[PATH_BYTES])
{
    char dir[PATH_BYTES], oldest_path[PATH_BYTES];
    int64_t oldest = 0, newest = 0;
    CN_TRY(cn_format(c->ctx, path, PATH_BYTES, "%s/%s%lld", c->output_dir, prefix,
                     (long long)state->step));
    CN_TRY(cn_format(c->ctx, dir, sizeof dir, "%s/.saving-%ld", c->output_dir, (long)getpid()));
    remove_flat(dir);
    cn_status s = fill_checkpoint(c, dir, state);
    if (s == CN_OK) s = put_in_place(c, dir, path);
    if (s != CN_OK) {
        remove_flat(dir);
        return s;
    }
    while (limit > 0 && list_checkpoints(c->output_dir, &oldest, &newest) > limit &&
           oldest < state->step) {
        CN_TRY(cn_format(c->ctx, oldest_path, sizeof oldest_path, "%s/%s%lld", c->output_dir,
                         prefix, (long long)oldest));
        remove_flat(oldest_path);
        if (cn_dir_exists(oldest_path)) break; /* something of the user's lies in it */
    }
    return CN_OK;
}

/* --- resuming ----------------------------------------------------------------------------------- */

cn_status cn_checkpoint_find(cn_ctx *ctx, const char *output_dir, const char *which,
                             char path[PATH_BYTES])
{
    int64_t oldest = 0, newest = 0;
    path[0] = 0;
    if (strcmp(which, "latest") == 0) {
        if (!list_checkpoints(output_dir, &oldest, &newest)) return CN_OK;
        return cn_format(ctx, path, PATH_BYTES, "%s/%s%lld", output_dir, prefix, (long long)newest);
    }
    CN_TRY(cn_format(ctx, path, PATH_BYTES, "%s", which));
    if (cn_dir_exists(path)) return CN_OK;
    CN_TRY(cn_format(ctx, path, PATH_BYTES, "%s/%s", output_dir, which));
    if (cn_dir_exists(path)) return CN_OK;
    return cn_fail(ctx, CN_EINVAL,
                   "--resume-from-checkpoint %s: no such folder, neither alone nor in %s", which,
                   output_dir);
}

cn_status cn_checkpoint_read_state(cn_ctx *ctx, const char *path, cn_train_state *out)
{
    char file[PATH_BYTES];
    json_t *json = NULL;
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/trainer_state.json", path));
    if (!cn_file_exists(file))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: no trainer_state.json; a checkpoint-N folder of this trainer is "
                       "expected",
                       path);
    CN_TRY(cn_json_load_file(ctx, file, &json));
    cn_train_state state = {.seed = (uint64_t)cn_json_int(json, "seed", 0),
                            .learned_at_step = cn_json_int(json, "learned_at_step", -1)};
    cn_status s = cn_json_need_int(ctx, json, "step", &state.step);
    if (s == CN_OK) s = cn_json_need_int(ctx, json, "samples", &state.samples);
    if (s == CN_OK) s = cn_json_need_int(ctx, json, "items", &state.items);
    if (s == CN_OK && (state.step < 0 || state.samples < 0 || state.items < 1))
        s = cn_fail(ctx, CN_EFORMAT, "step, samples or items out of range");
    json_decref(json);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", file);
    *out = state;
    return CN_OK;
}

cn_status cn_checkpoint_load(const cn_checkpoint *c, const char *path)
{
    char file[PATH_BYTES];
    cn_control_file *control = NULL;
    CN_TRY(cn_control_open(c->ctx, path, &control));
    cn_status s = cn_control_load(c->ctx, control, c->be, c->control);
    cn_control_close(control);
    if (s != CN_OK) return s;
    CN_TRY(cn_format(c->ctx, file, sizeof file, "%s/optimizer.safetensors", path));
    return cn_adamw_load(c->adamw, file);
}
