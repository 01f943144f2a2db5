/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_run.c - see tiny_run.h. */
#include "tiny_run.h"

#include "io/json.h"

#include <math.h>

char model[128], scenes[128];

int tiny_open(int threads)
{
    if (unit_open(threads) != 0) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(scenes, sizeof scenes, "%s/scenes", root);
    must(tiny_base_write(ctx, model, 8));
    must(tiny_scenes_write(ctx, scenes, 16));
    return 0;
}

cn_train_options tiny_options(const char *output)
{
    cn_train_options o;
    cn_train_options_default(&o);
    o.model = model;
    o.train_data_dir = scenes;
    o.output_dir = output;
    o.resolution = TINY_PX;
    o.train_batch_size = 2;
    o.learning_rate = 1e-3;
    o.overwrite = true; /* a test may use a folder again */
    o.validation_steps = 0;
    o.checkpointing_steps = 0;
    return o;
}

int tiny_metrics(const char *dir, const char *key, double *out, int most)
{
    char path[512];
    cn_jsonl *lines = NULL;
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    must(cn_jsonl_open(ctx, path, &lines));
    for (json_t *object; n < most;) {
        must(cn_jsonl_next(ctx, lines, &object));
        if (!object) break;
        if (json_object_get(object, key)) out[n++] = cn_json_number(object, key, NAN);
        json_decref(object);
    }
    cn_jsonl_close(lines);
    return n;
}

void tiny_resumes(const char *name, cn_train_options o, char whole[256])
{
    static const char *const files[] = {"control.safetensors", "base.safetensors",
                                        "ema/control.safetensors", "ema/base.safetensors",
                                        "base/unet/diffusion_pytorch_model.safetensors"};
    char parts[256], path[512];
    snprintf(whole, 256, "%s/%s-whole", root, name);
    snprintf(parts, sizeof parts, "%s/%s-parts", root, name);
    o.output_dir = whole;
    o.max_train_steps = 7;
    must(cn_train(ctx, &o, NULL, NULL));
    o.output_dir = parts;
    o.checkpointing_steps = 2;
    o.checkpoints_total_limit = 2;
    o.max_train_steps = 5;
    must(cn_train(ctx, &o, NULL, NULL));
    o.max_train_steps = 7;
    o.resume_from_checkpoint = "latest";
    must(cn_train(ctx, &o, NULL, NULL));
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", whole, files[i]);
        if (cn_file_exists(path) && !same_file(whole, parts, files[i]))
            fail_msg("%s: %s differs after resuming", name, files[i]);
    }
}
