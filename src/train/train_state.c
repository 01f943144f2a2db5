/* SPDX-License-Identifier: Apache-2.0 */
/* train_state.c - trainer_state.json: written, read and checked. */
#include "train/train_state.h"

#include "io/checksum.h"
#include "io/json.h"
#include "io/tensors.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Of format 2 are checkpoints without a sum of the state and without a run. */
enum { FORMAT = 3, UNSUMMED = 2 };

static const char own_name[] = "trainer_state.json", meta_run[] = "run_id", meta_step[] = "step";

/* Bounds are those of the options (train.c) and leave every sum of the loop far from overflow. */
static const struct {
    const char *key;
    size_t offset;
    int64_t least, most;
    bool added;     /* within format 2: may be missing there */
    int64_t before; /* what that means */
} fields[] = {
    {"step", offsetof(cn_train_state, step), 0, INT64_C(1000000000000), false, 0},
    {"samples", offsetof(cn_train_state, samples), 0, INT64_C(1) << 60, false, 0},
    {"items", offsetof(cn_train_state, items), 1, INT64_C(1) << 48, false, 0},
    {"pass_samples", offsetof(cn_train_state, unit), 1, INT64_C(1) << 40, true, 0},
    {"learned_at_step", offsetof(cn_train_state, learned_at_step), -1, INT64_C(1000000000000), true,
     -1},
    {"passes", offsetof(cn_train_state, passes), 0, 1000000, true, 0},
};

cn_status cn_run_id_create(cn_ctx *ctx, char out[CN_RUN_ID_BYTES])
{
    uint64_t id = 0;
    char reason[128];
    if (getrandom(&id, sizeof id, 0) != sizeof id)
        return cn_fail(ctx, CN_EIO, "no random number for the run's id: %s",
                       strerror_r(errno, reason, sizeof reason));
    snprintf(out, CN_RUN_ID_BYTES, "%016llx", (unsigned long long)id);
    return CN_OK;
}

void cn_run_mark_fill(const cn_train_state *state, cn_run_mark *out)
{
    snprintf(out->step, sizeof out->step, "%lld", (long long)state->step);
    const char *const list[] = {meta_run, state->run_id, meta_step, out->step, NULL};
    memcpy(out->metadata, list, sizeof list);
}

/* CRC-32 of the object without "crc32", in one spelling of it whatever the file's is. */
static cn_status sum_of(cn_ctx *ctx, const json_t *json, uint32_t *crc)
{
    json_t *copy = cn_json_copy(json);
    if (copy) json_object_del(copy, "crc32");
    char *text = cn_json_text(copy, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(copy);
    if (!text) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", own_name);
    *crc = cn_crc32(text, strlen(text));
    free(text);
    return CN_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

static cn_status add_file(cn_ctx *ctx, const char *dir, const char *name, json_t *files)
{
    char path[CN_PATH_BYTES];
    int64_t bytes = 0;
    uint32_t crc = 0;
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, name));
    CN_TRY(cn_file_crc32(ctx, path, &bytes, &crc));
    json_t *pair = json_pack("[I, I]", (json_int_t)bytes, (json_int_t)crc);
    if (json_object_set_new(files, name, pair) == 0) return CN_OK;
    return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
}

/* Adds "NAME": [bytes, CRC-32] for every file of dir, which has no folders. */
static cn_status list_files(cn_ctx *ctx, const char *dir, json_t *files)
{
    const struct dirent *e = NULL;
    cn_dir *d = NULL;
    cn_status s = cn_dir_open(ctx, dir, &d);
    while (s == CN_OK && (s = cn_dir_next(d, &e)) == CN_OK && e)
        s = add_file(ctx, dir, e->d_name, files);
    cn_dir_close(d);
    return s;
}

static cn_status fill(cn_ctx *ctx, const char *dir, const cn_train_state *state, json_t *json)
{
    uint32_t crc = 0;
    json_t *files = json_object();
    int failed = json_object_set_new(json, "format", json_integer(FORMAT)) |
                 json_object_set_new(json, "files", files);
    for (size_t i = 0; i < CN_COUNT(fields); i++) {
        const int64_t value = *(const int64_t *)((const char *)state + fields[i].offset);
        failed |= json_object_set_new(json, fields[i].key, json_integer(value));
    }
    failed |=
        json_object_set_new(json, "seed", json_integer((json_int_t)state->seed)) |
        json_object_set_new(json, "loss_sum", json_real(state->loss_sum)) |
        json_object_set_new(json, "only_mid_control", json_boolean(state->phase.only_mid)) |
        json_object_set_new(json, "unlocked", json_string(cn_unlock_word(state->phase.unlock))) |
        json_object_set_new(json, meta_run, json_string(state->run_id));
    if (state->scale.value > 0)
        failed |= json_object_set_new(json, "loss_scale", json_real(state->scale.value)) |
                  json_object_set_new(json, "scale_steps", json_integer(state->scale.steps)) |
                  json_object_set_new(json, "skipped_steps", json_integer(state->scale.skipped));
    if (failed) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", own_name);
    CN_TRY(list_files(ctx, dir, files));
    CN_TRY(sum_of(ctx, json, &crc));
    if (json_object_set_new(json, "crc32", json_integer(crc)) != 0)
        return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", own_name);
    return CN_OK;
}

cn_status cn_train_state_save(cn_ctx *ctx, const char *dir, const cn_train_state *state)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, own_name));
    json_t *json = json_object();
    if (!json) return cn_fail(ctx, CN_ENOMEM, "out of memory for %s", path);
    cn_status s = fill(ctx, dir, state, json);
    if (s == CN_OK) s = cn_json_save_file(ctx, path, json);
    json_decref(json);
    return s;
}

/* --- reading ---------------------------------------------------------------------------------- */

static cn_status check_format(cn_ctx *ctx, const json_t *json, int64_t *format)
{
    uint32_t crc = 0;
    int64_t saved = 0;
    CN_TRY(cn_json_need_int(ctx, json, "format", format));
    if (*format != FORMAT && *format != UNSUMMED)
        return cn_fail(ctx, CN_EFORMAT,
                       "a checkpoint of format %lld, by another version; this one reads %d and %d",
                       (long long)*format, UNSUMMED, FORMAT);
    /* none lost its sum or its run by becoming an old one */
    if (*format == UNSUMMED && !json_object_get(json, "crc32") && !json_object_get(json, meta_run))
        return CN_OK;
    CN_TRY(cn_json_need_int(ctx, json, "crc32", &saved));
    CN_TRY(sum_of(ctx, json, &crc));
    if (saved == (int64_t)crc) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "damaged: its content is not what was saved");
}

static cn_status read_run(cn_ctx *ctx, const json_t *json, cn_train_state *state)
{
    const char *id = cn_json_str(json, meta_run, "");
    if (strlen(id) != CN_RUN_ID_BYTES - 1 || strspn(id, "0123456789abcdef") != strlen(id))
        return cn_fail(ctx, CN_EFORMAT, "\"run_id\": 16 hexadecimal digits are expected");
    memcpy(state->run_id, id, CN_RUN_ID_BYTES);
    return CN_OK;
}

/* Only runs in F16 have it. */
static cn_status read_scale(cn_ctx *ctx, const json_t *json, cn_train_state *state)
{
    if (!json_object_get(json, "loss_scale")) return CN_OK;
    CN_TRY(cn_json_need_number(ctx, json, "loss_scale", &state->scale.value));
    CN_TRY(cn_json_need_int(ctx, json, "scale_steps", &state->scale.steps));
    CN_TRY(cn_json_need_int(ctx, json, "skipped_steps", &state->scale.skipped));
    if (state->scale.value >= 1e-12 && state->scale.value <= 1e30 && state->scale.steps >= 0 &&
        state->scale.steps <= INT64_C(1000000000000) && state->scale.skipped >= 0 &&
        state->scale.skipped <= INT64_C(1000000000000))
        return CN_OK;
    return cn_fail(ctx, CN_EFORMAT, "\"loss_scale\" or the steps under it are out of range");
}

static cn_status read_fields(cn_ctx *ctx, const json_t *json, cn_train_state *state)
{
    int64_t seed = 0, format = 0;
    CN_TRY(check_format(ctx, json, &format));
    for (size_t i = 0; i < CN_COUNT(fields); i++) {
        int64_t *value = (int64_t *)((char *)state + fields[i].offset);
        *value = fields[i].before;
        if (format == UNSUMMED && fields[i].added && !json_object_get(json, fields[i].key))
            continue;
        CN_TRY(cn_json_need_int(ctx, json, fields[i].key, value));
        if (*value < fields[i].least || *value > fields[i].most)
            return cn_fail(ctx, CN_EFORMAT, "\"%s\" is %lld; %lld to %lld are possible",
                           fields[i].key, (long long)*value, (long long)fields[i].least,
                           (long long)fields[i].most);
    }
    CN_TRY(cn_json_need_int(ctx, json, "seed", &seed));
    CN_TRY(cn_json_need_number(ctx, json, "loss_sum", &state->loss_sum));
    CN_TRY(read_scale(ctx, json, state));
    if (format != UNSUMMED) CN_TRY(read_run(ctx, json, state));
    state->seed = (uint64_t)seed;
    state->phase.only_mid = cn_json_bool(json, "only_mid_control", false);
    return cn_unlock_find(ctx, cn_json_str(json, "unlocked", ""), &state->phase.unlock);
}

/* That a file is there, as long as it was and with the same sum. */
static cn_status verify_file(cn_ctx *ctx, const char *dir, const char *name, const json_t *want)
{
    char file[CN_PATH_BYTES];
    int64_t bytes = 0;
    uint32_t crc = 0;
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/%s", dir, name));
    if (strstr(name, "..") || !cn_file_exists(file))
        return cn_fail(ctx, CN_EFORMAT, "%s: %s is missing", dir, name);
    CN_TRY(cn_file_crc32(ctx, file, &bytes, &crc));
    const int64_t want_bytes = json_integer_value(json_array_get(want, 0));
    if (bytes != want_bytes)
        return cn_fail(ctx, CN_EFORMAT, "%s: damaged: %lld bytes, not the %lld that were saved",
                       file, (long long)bytes, (long long)want_bytes);
    if ((json_int_t)crc != json_integer_value(json_array_get(want, 1)))
        return cn_fail(ctx, CN_EFORMAT, "%s: damaged: its content is not what was saved", file);
    return CN_OK;
}

/* That a file of tensors is of the state's run and step. */
static cn_status verify_mark(cn_ctx *ctx, const char *dir, const char *name,
                             const cn_train_state *state)
{
    char file[CN_PATH_BYTES];
    cn_tensors *t = NULL;
    cn_run_mark mark = {0};
    cn_status s = CN_OK;
    const size_t n = strlen(name);
    if (!state->run_id[0]) return CN_OK; /* format 2 has no marks */
    if (n < 12 || strcmp(name + n - 12, ".safetensors") != 0) return CN_OK;
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/%s", dir, name));
    CN_TRY(cn_tensors_open(ctx, file, &t));
    const char *run = cn_tensors_metadata(t, meta_run), *step = cn_tensors_metadata(t, meta_step);
    cn_run_mark_fill(state, &mark);
    if (!run || !step || strcmp(run, state->run_id) != 0 || strcmp(step, mark.step) != 0)
        s = cn_fail(ctx, CN_EFORMAT, "%s: of run %.32s at step %.32s, %s of run %s at step %s",
                    file, run ? run : "?", step ? step : "?", own_name, state->run_id, mark.step);
    cn_tensors_close(t);
    return s;
}

/* All files that are listed, and that none is left out that resuming reads. */
static cn_status verify_files(cn_ctx *ctx, const char *dir, const json_t *files,
                              const cn_train_state *state)
{
    const char *const read[] = {CN_TRAINED_FILE, CN_TRAIN_OPTIMIZER_FILE,
                                state->phase.unlock == CN_UNLOCK_NONE ? NULL : CN_TRAIN_BASE_FILE};
    const char *name;
    json_t *want;
    for (size_t i = 0; i < CN_COUNT(read) && read[i]; i++)
        if (!json_object_get(files, read[i]))
            return cn_fail(ctx, CN_EFORMAT, "%s/%s: \"files\" lacks %s", dir, own_name, read[i]);
    json_object_foreach((json_t *)(uintptr_t)files, name, want)
    {
        CN_TRY(verify_file(ctx, dir, name, want));
        CN_TRY(verify_mark(ctx, dir, name, state));
    }
    return CN_OK;
}

cn_status cn_train_state_read(cn_ctx *ctx, const char *dir, cn_train_state *out)
{
    char file[CN_PATH_BYTES];
    json_t *json = NULL;
    cn_train_state state = {0};
    CN_TRY(cn_format(ctx, file, sizeof file, "%s/%s", dir, own_name));
    if (!cn_file_exists(file))
        return cn_fail(ctx, CN_EFORMAT,
                       "%s: no %s; a checkpoint-N folder of this trainer is expected", dir,
                       own_name);
    CN_TRY(cn_json_load_file(ctx, file, &json));
    cn_status s = read_fields(ctx, json, &state);
    if (s != CN_OK)
        s = cn_fail_prefix(ctx, s, "%s", file);
    else
        s = verify_files(ctx, dir, json_object_get(json, "files"), &state);
    if (s == CN_OK && !state.run_id[0])
        cn_log(ctx, CN_LOG_WARN, "%s: of format %d, which has no sum of this file itself", file,
               UNSUMMED);
    json_decref(json);
    if (s == CN_OK) *out = state;
    return s;
}
