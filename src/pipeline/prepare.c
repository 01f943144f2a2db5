/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.c - controlnet.h's cn_dataset_prepare: its options, and which layout writes. */
#include "pipeline/prepare_internal.h"

#include "base/option.h"
#include "image/image.h"
#include "data/buckets.h"
#include "data/dataset.h"
#include "pipeline/samples_internal.h"

#include <stdio.h>
#include <string.h>

#define FIELD(member) CN_FIELD(cn_prepare_options, member)

const cn_option cn_prepare_option_rows[] = {
    {.help = "Options"},
    {"output", 'o', "the training set", FIELD(output_dir), .arg = "DIR", .required = true},
    {"condition", 0,
     "canny, \"canny low=50\", \"pidinet | scribble_synthesis\", seg_coco, ... (controlnet "
     "annotate "
     "--list). Several make a pair each",
     FIELD(conditions), .arg = "KIND", .required = true},
    {"model", 'm', "of kinds with networks; may be given several times", FIELD(weights),
     .arg = "WEIGHTS"},
    {"source-weights", 0, "how often each source's pictures are taken: 1,0.5,2 (webdataset)",
     FIELD(source_weights), .arg = "X,...", .unset = "once"},
    {"labels", 0,
     "COCO's instances_*.json, or a folder of label maps or .npy files named as the pictures "
     "(found by itself in COCO's, ADE20K's and DIODE's folders)",
     FIELD(labels), .arg = "PATH"},
    {"captions", 0,
     "COCO's captions_*.json (else metadata.jsonl or .csv in PHOTOS, or .txt or .caption beside "
     "each picture)",
     FIELD(captions), .arg = "FILE"},
    {"all-captions", 0, "a pair for each of COCO's captions", FIELD(all_captions)},
    {"caption", 0, "of pictures that have none", FIELD(caption)},
    {"resolution", 0, "larger pictures are shrunk to this shorter side", FIELD(resolution), 1,
     CN_IMAGE_MAX_SIDE, .arg = "PX", .unset = "copied as they are"},
    {"detect-resolution", 0, "as for annotate", FIELD(detect_resolution), -1, CN_IMAGE_MAX_SIDE,
     .arg = "PX"},
    {"random-thresholds", 0, "as for annotate", FIELD(random_thresholds)},
    {"seed", 0, "of what is drawn at random", FIELD(seed), .preset = "0"},
    {"recursive", 'r', "folders in PHOTOS too", FIELD(recursive)},
    {"no-copy", 0, "pairs name the pictures where they are", FIELD(refer)},
    {"layout", 0, NULL, FIELD(layout),
     .words = (const char *const[]){"fill50k", "imagefolder", "webdataset", NULL},
     .preset = "fill50k"},
    {.help = "Options of webdataset"},
    {"shard-size", 0, "about so much a shard",
     CN_FIELD_AS(CN_FIELD_BYTES, cn_prepare_options, shard_size), .arg = "BYTES", .unset = "1G"},
    {"part", 0, "the K-th of N parts of the shards, for jobs that share OUT: 2/3", FIELD(part),
     .arg = "K/N"},
    {"quality", 0, "pictures that aren't copied are JPEG of it", FIELD(quality), 1, 100,
     .unset = "PNG"},
    {"png-level", 0, "how hard PNG files are compressed, conditions too: 1 soonest, 9 smallest",
     FIELD(png_level), 1, 9, .unset = "6"},
    {"encode", 0,
     "the base model to train on: what its encoders make of pictures, fitted to --resolution, and "
     "captions is written too, and training has nothing to encode",
     FIELD(encode), .arg = "MODEL"},
    {"vae", 0,
     "of --encode: a VAE instead of the model's own, as training will have it: its file or folder, "
     "or a base model",
     FIELD(vae), .arg = "FILE|DIR"},
    {"enable-bucket", 0,
     "resize and crop pictures to the sizes that training with --enable-bucket and the same "
     "--resolution has",
     FIELD(enable_bucket)},
    CN_BUCKET_MIN_ROW(cn_prepare_options),
    CN_BUCKET_MAX_ROW(cn_prepare_options),
    CN_BUCKET_STEPS_ROW(cn_prepare_options, unset),
    CN_BUCKET_NO_UPSCALE_ROW(cn_prepare_options),
    {"on-bad", 0,
     "a picture that can't be used is left out and counted, with exit status 1 at the end (fail) "
     "or "
     "without (skip); or ends the run (stop)",
     FIELD(on_bad), .words = (const char *const[]){"fail", "skip", "stop", NULL}, .preset = "fail"},
    {"dry-run", 0, "write nothing; say by a sample what time and disk it takes", FIELD(dry_run)},
    {.help = "What webdataset leaves out, counted by reason"},
    {"min-size", 0, "pictures whose shorter side is below", FIELD(min_size), 1, CN_IMAGE_MAX_SIDE,
     .arg = "PX", .unset = "none"},
    {"max-aspect", 0, "pictures longer than this times their shorter side", FIELD(max_aspect), 1,
     CN_IMAGE_MAX_SIDE, .arg = "RATIO", .unset = "none"},
    {"min-caption", 0, "captions of fewer characters", FIELD(min_caption), 1, 1e6, .arg = "N",
     .unset = "none"},
    {"max-caption", 0, "captions of more characters", FIELD(max_caption), 1, 1e6, .arg = "N",
     .unset = "none"},
    {"score", 0,
     "pictures whose .json doesn't have this key within MIN to MAX; one of both may be missing: "
     "similarity=0.28:, pwatermark=:0.5",
     FIELD(scores), .arg = "KEY=MIN:MAX"},
    {"duplicates", 0,
     "pictures that look like an earlier one by a perceptual hash: equal, or near (5 of 64 bits); "
     "all are hashed first",
     FIELD(duplicates), .words = (const char *const[]){"keep", "equal", "near", NULL},
     .preset = "keep"},
    {"min-density", 0,
     "black and white conditions with less than this share of white, and any of one colour",
     FIELD(min_density), 0, 1, .arg = "SHARE", .unset = "none"},
    {"max-density", 0, "those with more", FIELD(max_density), 0, 1, .arg = "SHARE",
     .unset = "none"},
    {0},
};

/* --- what goes together ----------------------------------------------------------------------- */

static bool is_webdataset(const cn_prepare_options *o)
{
    return o->layout && strcmp(o->layout, "webdataset") == 0;
}

/* The first option that the layout has no use for; NULL: there is none. */
static const char *find_useless(const cn_prepare_options *o)
{
    const bool shards = is_webdataset(o);
    const struct {
        bool given, of_shards;
        const char *name;
    } rows[] = {{o->all_captions, false, "all-captions"},
                {o->refer, false, "no-copy"},
                {o->source_weights != NULL, true, "source-weights"},
                {o->shard_size != 0, true, "shard-size"},
                {o->part != NULL, true, "part"},
                {o->quality != 0, true, "quality"},
                {o->png_level != 0, true, "png-level"},
                {o->encode != NULL, true, "encode"},
                {o->vae != NULL, true, "vae"},
                {o->enable_bucket, true, "enable-bucket"},
                {o->min_bucket_reso != 0, true, "min-bucket-reso"},
                {o->max_bucket_reso != 0, true, "max-bucket-reso"},
                {o->bucket_reso_steps != 0, true, "bucket-reso-steps"},
                {o->bucket_no_upscale, true, "bucket-no-upscale"},
                {o->on_bad && strcmp(o->on_bad, "fail") != 0, true, "on-bad"},
                {o->min_size != 0, true, "min-size"},
                {o->max_aspect > 0, true, "max-aspect"},
                {o->min_caption != 0, true, "min-caption"},
                {o->max_caption != 0, true, "max-caption"},
                {o->scores && *o->scores, true, "score"},
                {o->dry_run, true, "dry-run"},
                {cn_filters_drop_lookalikes(o), true, "duplicates"},
                {o->min_density > 0, true, "min-density"},
                {o->max_density > 0, true, "max-density"}};
    for (size_t i = 0; i < CN_COUNT(rows); i++)
        if (rows[i].given && rows[i].of_shards != shards) return rows[i].name;
    return NULL;
}

static cn_status check(cn_ctx *ctx, const cn_prepare_options *o)
{
    int64_t k, total;
    int n = 0;
    CN_TRY(cn_options_check(ctx, cn_prepare_option_rows, o));
    while (o->conditions && o->conditions[n] && n <= CN_SAMPLE_CONDITIONS) n++;
    if (n < 1 || n > CN_SAMPLE_CONDITIONS)
        return cn_fail(ctx, CN_EINVAL, "1 to %d conditions are expected (canny, for instance)",
                       CN_SAMPLE_CONDITIONS);
    const char *useless = find_useless(o);
    if (useless)
        return cn_fail(ctx, CN_EINVAL, "--%s has no effect on the layout %s", useless,
                       o->layout ? o->layout : "fill50k");
    if (o->vae && !o->encode)
        return cn_fail(ctx, CN_EINVAL, "--vae is of --encode, which names the base model");
    CN_TRY(cn_part_read(ctx, o->part, &k, &total));
    if (!o->sources || !o->sources[0])
        return cn_fail(ctx, CN_EINVAL, "no source: a folder of pictures is expected");
    if (!is_webdataset(o) && (o->sources[1] || !cn_source_is_folder(o->sources[0])))
        return cn_fail(
            ctx, CN_EINVAL,
            "one folder of pictures is expected; several sources, tar shards, scenes and "
            "circles take the layout webdataset");
    return CN_OK;
}

cn_status cn_dataset_prepare(cn_ctx *ctx, const cn_prepare_options *options,
                             cn_prepare_result *result)
{
    cn_prepare_result none = {0}, *r = result ? result : &none;
    *r = none;
    CN_TRY(check(ctx, options));
    return is_webdataset(options) ? cn_prepare_shards(ctx, options, r)
                                  : cn_prepare_folder(ctx, options, r);
}
