/* SPDX-License-Identifier: Apache-2.0 */
/* badinput.c - controlnet on broken files and wrong words: badinput [PROGRAM].
 *
 * What a case expects: tests/support/bad/bad_case.h. Files of control networks: badnets.c.
 *
 * It stays one file, long as it is: a list of cases.
 */
#include "../support/bad/bad_case.h"
#include "../support/tiny_base.h"
#include "../support/tiny_model.h"

#include "image/image.h"
#include "io/tensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- cases: wrong words ----------------------------------------------------------------------- */

#define GENERATE "generate", "-m", in_root("model"), "-p", "a red cube", "-s", "1", "--steps", "1"
#define TRAIN_ON(dir) \
    "train", "-m", in_root("model"), "--train-data-dir", dir, "--resolution", "16", "--threads", "1"
#define ONE_STEP "--max-train-steps", "1", "--validation-steps", "0"

static void wrong_usage(void)
{
    const char *out = in_root("out.png");
    CHECK("no command of that name", 2, SAYS("paint"), "paint");
    CHECK("unknown option", 2, SAYS("--sampler-name"), GENERATE, "--sampler-name", "ddim");
    CHECK("beginning of an option", 2, SAYS("--cfg"), GENERATE, "--cfg", "3");
    CHECK("option without its value", 2, SAYS("--seed"), GENERATE, "--seed");
    CHECK("letter without its value", 2, SAYS("-vs needs a value"), GENERATE, "-vs");
    CHECK("switch with a value", 2, SAYS("--grid=1", "takes no value"), GENERATE, "--grid=1");
    CHECK("one base of two", 2, SAYS("--transfer needs 2 values: FROM TO"), "convert", "--transfer",
          "a");
    CHECK("a word where none belongs", 2, SAYS("\"stray\" is no option"), GENERATE, "--", "stray");
    CHECK("names as diffusers writes them", 1, SAYS("nowhere"), "train",
          "--pretrained_model_name_or_path=nowhere", "--train_data_dir", in_root("data"),
          "--output_dir", in_root("out"));
    CHECK("unknown sampler", 2, SAYS("unheard", "ddim, pndm", "dpm++3m_sde, unipc, lcm, tcd"),
          GENERATE, "--sampling-method", "unheard", "-o", out);
    CHECK("unknown scheduler", 2, SAYS("--scheduler", "cosine", "karras"), GENERATE, "--scheduler",
          "cosine", "-o", out);
    CHECK("unknown spacing", 2, SAYS("--timestep-spacing", "dense", "trailing"), GENERATE,
          "--timestep-spacing", "dense", "-o", out);
    CHECK("Karras' noise levels for ddim", 1, SAYS("karras", "ddim", "dpm++2m"), GENERATE,
          "--scheduler", "karras", "-o", out);
    CHECK("more steps than lcm has", 1, SAYS("51 steps of lcm", "1 to 50"), GENERATE,
          "--sampling-method", "lcm", "--steps", "51", "-o", out);
    CHECK("noise predicted from noise alone", 1, SAYS("noise alone", "predicts v"), GENERATE,
          "--rescale-betas-zero-snr", "--timestep-spacing", "trailing", "-o", out);
    CHECK("no steps", 2, SAYS("--steps", "0"), GENERATE, "--steps", "0", "-o", out);
    CHECK("steps in words", 2, SAYS("--steps", "many"), GENERATE, "--steps", "many", "-o", out);
    CHECK("more steps than training had", 2, SAYS("--steps"), GENERATE, "--steps", "1001", "-o",
          out);
    CHECK("no steps in the second pass", 2, SAYS("--hires-steps", "1 to 1000"), GENERATE,
          "--hires-scale", "2", "--hires-steps", "0", "-o", out);
    CHECK("guidance rescaled beyond 1", 2, SAYS("--guidance-rescale", "0 to 1"), GENERATE,
          "--guidance-rescale", "1.5", "-o", out);
    CHECK("unknown preview", 2, SAYS("--preview", "tae", "vae"), GENERATE, "--preview", "tae", "-o",
          out);
    CHECK("no prompt", 2, SAYS("-p"), "generate", "-m", in_root("model"));
    CHECK("no model", 2, SAYS("-m"), "generate", "-p", "a red cube");
    CHECK("strength without initial image", 2, SAYS("--strength", "--init-img"), GENERATE,
          "--strength", "0.5", "-o", out);
    CHECK("strength above 1", 2, SAYS("--strength", "0 to 1"), GENERATE, "-i", in_root("good.png"),
          "--strength", "1.2", "-o", out);
    CHECK("strength 0", 2, SAYS("--strength", "above 0"), GENERATE, "-i", in_root("good.png"),
          "--strength", "0", "-o", out);
    CHECK("strength that is no number", 2, SAYS("--strength", "nan"), GENERATE, "-i",
          in_root("good.png"), "--strength", "nan", "-o", out);
    CHECK("strength that leaves no step", 1, SAYS("strength 0.5 of 1 steps", "at least 1"),
          GENERATE, "-i", in_root("good.png"), "--strength", "0.5", "-o", out);
    CHECK("second pass of strength 2", 2, SAYS("--hires-strength", "0 to 1"), GENERATE,
          "--hires-scale", "2", "--hires-strength", "2", "-o", out);
    CHECK("control strength far out of range", 2, SAYS("--control-strength", "-100 to 100"),
          GENERATE, "--control-net", in_root("control"), "--control-image", in_root("good.png"),
          "--control-strength", "1e9", "-o", out);
    CHECK("control that ends before it starts", 2, SAYS("--control-start 0.8", "0.2"), GENERATE,
          "--control-net", in_root("control"), "--control-image", in_root("good.png"),
          "--control-start", "0.8", "--control-end", "0.2", "-o", out);
    CHECK("control weights of another network", 1, SAYS("2 control weights"), GENERATE,
          "--control-net", in_root("control"), "--control-image", in_root("good.png"),
          "--control-weights", "1,0.5", "-o", out);
    CHECK("mask without initial image", 2, SAYS("--mask", "--init-img"), GENERATE, "--mask",
          in_root("good.png"), "-o", out);
    CHECK("only masked in diffusers' style", 1, SAYS("diffusers", "--inpaint-full-res"), GENERATE,
          "-i", in_root("good.png"), "--mask", in_root("good.png"), "--mask-style", "diffusers",
          "--inpaint-full-res", "-o", out);
    put_black("black.png");
    CHECK("only masked of a black mask", 1, SAYS("black everywhere"), GENERATE, "-i",
          in_root("good.png"), "--mask", in_root("black.png"), "--inpaint-full-res", "-o", out);
    CHECK("unknown fill", 2, SAYS("--inpainting-fill", "latent-noise"), GENERATE, "-i",
          in_root("good.png"), "--mask", in_root("good.png"), "--inpainting-fill", "sky", "-o",
          out);
    CHECK("guidance that ends before it begins", 1, SAYS("--guidance-start 0.6", "0.5"), GENERATE,
          "--guidance-start", "0.6", "--guidance-end", "0.5", "-o", out);
    CHECK("mask of another size", 1, SAYS("mask is 48 x 16", "proportions"), GENERATE, "-i",
          in_root("good.png"), "--mask", in_root("flat.png"), "-o", out);
    CHECK("region of another size", 1, SAYS("/control", "mask is 48 x 16", "proportions"), GENERATE,
          "--control-net", in_root("control"), "--control-image", in_root("good.png"),
          "--control-mask", in_root("flat.png"), "-o", out);
    CHECK("latents of another size", 1, SAYS("flat.safetensors", "[1,4,"), GENERATE,
          "--init-latents", in_root("flat.safetensors"), "-o", out);
    CHECK("picture without sides", 2, SAYS("--width", "1 to 32768"), GENERATE, "-W", "0", "-o",
          out);
    CHECK("picture too large", 1, SAYS("32768"), GENERATE, "-W", "32768", "-H", "32768", "-o", out);
    CHECK("ControlNet without image", 2, SAYS("--control-image"), GENERATE, "--control-net",
          in_root("control"));
    CHECK("unknown annotator", 2, SAYS("smudge"), "annotate", "smudge", "a.png", "-o", "b.png");
    CHECK("unknown annotator behind another", 1, SAYS("smudge"), "annotate", "canny | smudge",
          in_root("good.png"), "-o", out);
    CHECK("pixel perfect without a size", 2, SAYS("--pixel-perfect", "512x768"), "annotate",
          "canny", "a.png", "--pixel-perfect", "512", "-o", out);
    CHECK("unknown fit", 2, SAYS("--fit", "inner"), "annotate", "canny", "a.png", "--fit", "tight",
          "-o", out);
    CHECK("unknown palette", 1, SAYS("pascal", "ade20k"), "annotate", "--palette", "pascal");
    CHECK("random thresholds of scribbles", 1, SAYS("scribble", "canny"), "annotate", "scribble",
          in_root("good.png"), "--random-thresholds", "-o", out);
    CHECK("unknown validation annotator", 1, SAYS("smudge", "canny, mlsd"),
          TRAIN_ON(in_root("data")), "--validation-annotator", "smudge", "-o", in_root("out"));
    CHECK("validation annotator that nothing compares", 1, SAYS("invert", "can't be compared"),
          TRAIN_ON(in_root("data")), "--validation-annotator", "invert", "-o", in_root("out"));
    CHECK("validation annotator without its network", 1, SAYS("depth", "dpt_hybrid-midas"),
          TRAIN_ON(in_root("data")), "--validation-annotator", "depth", "-o", in_root("out"));
    CHECK("validation annotator's weights of another network", 1, SAYS("flat.safetensors", "hed"),
          TRAIN_ON(in_root("data")), "--validation-annotator", "hed",
          "--validation-annotator-model", in_root("flat.safetensors"), "-o", in_root("out"));
    CHECK("weights for no annotator", 1, SAYS("flat.safetensors", "--validation-annotator KIND"),
          TRAIN_ON(in_root("data")), "--validation-annotator", "none",
          "--validation-annotator-model", in_root("flat.safetensors"), "-o", in_root("out"));
    CHECK("scenes without their network", 1, SAYS("hed", "ControlNetHED.pth"), "dataset", "scenes",
          in_root("out"), "-n", "1", "--condition", "hed");
    CHECK("scenes of an unknown condition", 1, SAYS("smudge", "edges, depth"), "dataset", "scenes",
          in_root("out"), "-n", "1", "--condition", "smudge");
    CHECK("random thresholds of an exact condition", 1, SAYS("lines", "canny has"), "dataset",
          "scenes", in_root("out"), "-n", "1", "--condition", "lines", "--random-thresholds");
    CHECK("scenes with an unknown shape", 1, SAYS("sofa", "sphere, cube"), "dataset", "scenes",
          in_root("out"), "-n", "1", "--with", "sofa");
    CHECK("weights for canny scenes", 1, SAYS("flat.safetensors", "takes no weights"), "dataset",
          "scenes", in_root("out"), "-n", "1", "-m", in_root("flat.safetensors"));
    CHECK("prepare without a condition", 2, SAYS("--condition"), "dataset", "prepare",
          in_root("data"), "-o", in_root("out"));
    CHECK("prepare into nothing", 2, SAYS("-o"), "dataset", "prepare", in_root("data"),
          "--condition", "canny");
    CHECK("prepare from nowhere", 1, SAYS("nowhere"), "dataset", "prepare", in_root("nowhere"),
          "--condition", "canny", "-o", in_root("out"));
    CHECK("prepare as a zip file", 2, SAYS("--layout", "zip"), "dataset", "prepare",
          in_root("data"), "--condition", "canny", "--layout", "zip", "-o", in_root("out"));
    CHECK("prepare scenes into a folder of pairs", 1, SAYS("the layout webdataset"), "dataset",
          "prepare", "scenes:4", "--condition", "canny", "-o", in_root("out"));
    CHECK("prepare no scenes", 1, SAYS("scenes:0", "1 to"), "dataset", "prepare", "scenes:0",
          "--condition", "canny", "--layout", "webdataset", "-o", in_root("out"));
    CHECK("prepare a part of too few", 1, SAYS("5/4", "K/N"), "dataset", "prepare", "scenes:4",
          "--condition", "canny", "--layout", "webdataset", "--part", "5/4", "-o", in_root("out"));
    CHECK("prepare by no score", 1, SAYS("similarity", "KEY=MIN:MAX"), "dataset", "prepare",
          "scenes:4", "--condition", "canny", "--layout", "webdataset", "--score", "similarity",
          "-o", in_root("out"));
    CHECK("encode by no model", 1, SAYS("nowhere"), "dataset", "prepare", "scenes:4", "--condition",
          "canny", "--layout", "webdataset", "--encode", in_root("nowhere"), "--resolution", "16",
          "-o", in_root("out"));
    CHECK("encode by pictures", 1, SAYS("/data"), "dataset", "prepare", "scenes:4", "--condition",
          "canny", "--layout", "webdataset", "--encode", in_root("data"), "--resolution", "16",
          "-o", in_root("out"));
    CHECK("encode in no size", 1, SAYS("--resolution"), "dataset", "prepare", "scenes:4",
          "--condition", "canny", "--layout", "webdataset", "--encode", in_root("model"), "-o",
          in_root("out"));
    CHECK("a PNG level beyond zlib's", 2, SAYS("--png-level", "1 to 9"), "dataset", "prepare",
          "scenes:4", "--condition", "canny", "--layout", "webdataset", "--png-level", "10", "-o",
          in_root("out"));
    CHECK("a PNG level in a folder of pairs", 1, SAYS("--png-level has no effect"), "dataset",
          "prepare", in_root("data/target"), "--condition", "canny", "--png-level", "1", "-o",
          in_root("out"));
    CHECK("buckets of no size", 1, SAYS("--enable-bucket", "--resolution"), "dataset", "prepare",
          "scenes:4", "--condition", "canny", "--layout", "webdataset", "--enable-bucket", "-o",
          in_root("out"));
    CHECK("bucket sides in prepare without buckets", 1, SAYS("--enable-bucket makes them"),
          "dataset", "prepare", "scenes:4", "--condition", "canny", "--layout", "webdataset",
          "--min-bucket-reso", "64", "-o", in_root("out"));
    CHECK("buckets in a folder of pairs", 1, SAYS("--enable-bucket has no effect"), "dataset",
          "prepare", in_root("data/target"), "--condition", "canny", "--enable-bucket",
          "--resolution", "16", "-o", in_root("out"));
    CHECK("buckets wider than pictures", 1, SAYS("--bucket-reso-steps 64", "16"), "dataset",
          "prepare", "scenes:4", "--condition", "canny", "--layout", "webdataset",
          "--enable-bucket", "--resolution", "16", "-o", in_root("out"));
    CHECK("buckets that the VAE can't divide", 1, SAYS("--bucket-reso-steps 5", "multiple"),
          "dataset", "prepare", "scenes:4", "--condition", "canny", "--layout", "webdataset",
          "--enable-bucket", "--resolution", "16", "--bucket-reso-steps", "5", "--encode",
          in_root("model"), "-o", in_root("out"));
    CHECK("a VAE for nothing", 1, SAYS("--vae", "--encode"), "dataset", "prepare", "scenes:4",
          "--condition", "canny", "--layout", "webdataset", "--vae", in_root("model"), "-o",
          in_root("out"));
    CHECK("encode by no VAE", 1, SAYS("nowhere"), "dataset", "prepare", "scenes:4", "--condition",
          "canny", "--layout", "webdataset", "--encode", in_root("model"), "--resolution", "16",
          "--vae", in_root("nowhere"), "-o", in_root("out"));
    CHECK("split into one", 2, SAYS("--validation"), "dataset", "split", in_root("data"), "-o",
          in_root("out"));
    CHECK("sample more than there are", 1, SAYS("pairs of"), "dataset", "sample", in_root("data"),
          "-n", "100000", "-o", in_root("out"));
    CHECK("show what isn't there", 1, SAYS("99999", "are there"), "dataset", "show",
          in_root("data"), "--at", "99999");
    CHECK("stats of nothing", 1, SAYS("nowhere"), "dataset", "stats", in_root("nowhere"));
    CHECK("train without data", 2, SAYS("--train-data-dir"), "train", "-m", in_root("model"), "-o",
          in_root("out"), "--threads", "1", "--json"); /* the last options of a long list */
    CHECK("crops that are cached", 1, SAYS("--random-crop", "--no-cache-latents"),
          TRAIN_ON(in_root("data")), ONE_STEP, "--random-crop", "--cache-latents", "-o",
          in_root("out"));
    CHECK("caching on and off", 2, SAYS("--no-cache-latents"), TRAIN_ON(in_root("data")), ONE_STEP,
          "--no-cache-latents", "--cache-latents", "-o", in_root("out"));
    CHECK("a prompt without its image", 1, SAYS("--validation-image", "is missing"),
          TRAIN_ON(in_root("data")), "--max-train-steps", "1", "--validation-prompt", "a dog", "-o",
          in_root("out"));
    CHECK("tags kept where none move", 1, SAYS("--keep-tokens", "--shuffle-caption"),
          TRAIN_ON(in_root("data")), ONE_STEP, "--keep-tokens", "1", "-o", in_root("out"));
    CHECK("more tags left out than there are", 2, SAYS("--caption-tag-dropout-rate", "2"),
          TRAIN_ON(in_root("data")), ONE_STEP, "--caption-tag-dropout-rate", "2", "-o",
          in_root("out"));
    CHECK("nothing between tags", 1, SAYS("--caption-separator"), TRAIN_ON(in_root("data")),
          ONE_STEP, "--shuffle-caption", "--caption-separator", "", "-o", in_root("out"));
    CHECK("bucket sides without buckets", 1, SAYS("--enable-bucket"), TRAIN_ON(in_root("data")),
          ONE_STEP, "--min-bucket-reso", "8", "-o", in_root("out"));
    CHECK("buckets that leave the resolution out", 1, SAYS("--max-bucket-reso", "--resolution 16"),
          TRAIN_ON(in_root("data")), ONE_STEP, "--enable-bucket", "--bucket-reso-steps", "8",
          "--min-bucket-reso", "4", "--max-bucket-reso", "8", "-o", in_root("out"));
    CHECK("bucket steps that latents can't have", 1, SAYS("--bucket-reso-steps 5", "multiple of"),
          TRAIN_ON(in_root("data")), ONE_STEP, "--enable-bucket", "--bucket-reso-steps", "5", "-o",
          in_root("out"));
    CHECK("train in a precision that nobody has", 2, SAYS("--mixed-precision fp8", "bf16", "fp16"),
          "train", "--mixed-precision", "fp8");
    CHECK("convert to a strange type", 2, SAYS("--dtype", "f8", "bf16"), "convert", "--dtype", "f8",
          "a", "b");
    CHECK("convert with an unknown answer to what is out of range", 2,
          SAYS("--out-of-range", "clamp", "refuse"), "convert", "--out-of-range", "clamp", "a",
          "b");
    CHECK("two kinds of pretrain", 2, SAYS("--vae-steps"), "pretrain", "--evaluate",
          in_root("model"), "--vae-steps", "5");
    CHECK("too few widths", 2, SAYS("--vae-widths", "4 whole numbers"), "pretrain", "-o",
          in_root("out"), "--vae-widths", "16,32");
    CHECK("widths that aren't numbers", 2, SAYS("--unet-widths", "3 whole numbers"), "pretrain",
          "-o", in_root("out"), "--unet-widths", "32,x,32");
    CHECK("unknown prediction", 2, SAYS("--prediction-type", "epsilon"), "pretrain", "-o",
          in_root("out"), "--prediction-type", "x0");
    CHECK("widths that norms can't split", 1, SAYS("multiples of 16"), "pretrain", "-o",
          in_root("out"), "--unet-widths", "40,40,40");
    CHECK("unknown stage", 2, SAYS("clip", "vae", "unet"), "pretrain", "-o", in_root("out"),
          "--stage", "clip");
}

/* --- cases: model files ----------------------------------------------------------------------- */

static void make_bad_models(void)
{
    static const char two[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
                              "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}";
    static const char off[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[400000],"
                              "\"data_offsets\":[0,1600000]}}";
    put_part("truncated.safetensors", "model.safetensors", 1, 2);
    put_part("onebyte.safetensors", "model.safetensors", 0, 1);
    put_safetensors("long.safetensors", UINT64_C(0x7fffffffffffff00), two, 24);
    put_safetensors("lying.safetensors", sizeof two - 1 - 20, two, 24);
    put_safetensors("overlapping.safetensors", sizeof two - 1, two, 24);
    put_safetensors("beyond.safetensors", sizeof off - 1, off, 16);
}

static void bad_safetensors(void)
{
    static const char *const names[] = {"truncated.safetensors",   "onebyte.safetensors",
                                        "long.safetensors",        "lying.safetensors",
                                        "overlapping.safetensors", "beyond.safetensors"};
    char title[128];
    make_bad_models();
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        snprintf(title, sizeof title, "inspect %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), "inspect", in_root(names[i]));
        snprintf(title, sizeof title, "generate from %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), "generate", "-m", in_root(names[i]), "-p", "a red cube",
              "-o", in_root("out.png"));
        snprintf(title, sizeof title, "generate with ControlNet %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), GENERATE, "--control-net", in_root(names[i]),
              "--control-image", in_root("good.png"), "-o", in_root("out.png"));
        snprintf(title, sizeof title, "convert %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), "convert", in_root(names[i]), in_root("out.safetensors"));
    }
}

/* A folder whose networks are the good model's but for one file. */
static void bad_folder(void)
{
    static const char *const same[] = {"vae", "text_encoder", "tokenizer", "scheduler",
                                       "model_index.json"};
    char link[PATH_MAX];
    must(mkdir(in_root("halved"), 0755) == 0, "halved");
    must(mkdir(in_root("halved/unet"), 0755) == 0, "halved/unet");
    for (size_t i = 0; i < CN_COUNT(same); i++) {
        snprintf(link, sizeof link, "%s/model/%s", root, same[i]);
        char at[64];
        snprintf(at, sizeof at, "halved/%s", same[i]);
        must(symlink(link, in_root(at)) == 0, at);
    }
    put_part("halved/unet/config.json", "model/unet/config.json", 1, 1);
    put_part("halved/unet/diffusion_pytorch_model.safetensors",
             "model/unet/diffusion_pytorch_model.safetensors", 1, 2);
    CHECK("folder with half a UNet", 1, SAYS("halved/unet/diffusion_pytorch_model.safetensors"),
          "generate", "-m", in_root("halved"), "-p", "a cube", "--steps", "1", "-s", "1", "-o",
          in_root("out.png"));
    put_part("halved/unet/config.json", "model/unet/config.json", 1, 2);
    CHECK("folder with half a config.json", 1, SAYS("config.json"), "generate", "-m",
          in_root("halved"), "-p", "a cube", "-o", in_root("out.png"));
    put_text("halved/unet/config.json", "{\"block_out_channels\": [1000000000000, -5], "
                                        "\"cross_attention_dim\": 16, \"in_channels\": 4}");
    CHECK("folder with absurd widths", 1, SAYS("config.json"), "generate", "-m", in_root("halved"),
          "-p", "a cube", "-o", in_root("out.png"));
}

static void bad_pickles(void)
{
    char pickle[256], protocol0[256];
    /* \x80\x02 protocol 2, c global, X text, \x85 tuple, R call, . stop */
    snprintf(pickle, sizeof pickle, "%s",
             "\x80\x02"
             "cposix\nsystem\nX");
    const size_t at = strlen(pickle);
    char command[128];
    snprintf(command, sizeof command, "touch %s", in_root("pwned"));
    memcpy(pickle + at, (const char[]){(char)strlen(command), 0, 0, 0}, 4);
    memcpy(pickle + at + 4, command, strlen(command));
    memcpy(pickle + at + 4 + strlen(command), "\x85R.", 3);
    const size_t n = at + 4 + strlen(command) + 3;
    put_torch_zip("system.ckpt", pickle, n);
    put("system.pth", pickle, n);
    const int m =
        snprintf(protocol0, sizeof protocol0, "cos\nsystem\n(S'touch %s'\ntR.", in_root("pwned"));
    put_torch_zip("system0.ckpt", protocol0, (size_t)m);
    CHECK("inspect a pickle that calls posix.system", 1, SAYS("system.ckpt", "posix", "system"),
          "inspect", in_root("system.ckpt"));
    CHECK("draw with a pickle that calls posix.system", 1, SAYS("system.ckpt", "posix", "system"),
          "generate", "-m", in_root("system.ckpt"), "-p", "x", "-o", in_root("out.png"));
    CHECK("a pickle of protocol 0 that calls os.system", 1, SAYS("system0.ckpt", "os", "system"),
          "inspect", in_root("system0.ckpt"));
    CHECK("a bare pickle", 1, SAYS("system.pth"), "inspect", in_root("system.pth"));
    put_part("cut.ckpt", "system.ckpt", 2, 3);
    CHECK("half a torch file", 1, SAYS("cut.ckpt"), "inspect", in_root("cut.ckpt"));
}

static void wrong_models(void)
{
    static const char f4[] =
        "{\"model.diffusion_model.input_blocks.0.0.weight\":{\"dtype\":\"F4\",\"shape\":[4],"
        "\"data_offsets\":[0,8]},\"first_stage_model.encoder.down.0.block.0.conv1.weight\":{"
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
        "\"cond_stage_model.transformer.text_model.x\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[12,16]}}";
    put_safetensors("f4.safetensors", sizeof f4 - 1, f4, 16);
    CHECK("a UNet of an unknown type", 1,
          SAYS("f4.safetensors", "input_blocks.0.0.weight has type F4", "not read"), "generate",
          "-m", in_root("f4.safetensors"), "-p", "a cube", "-o", in_root("out.png"));
    put_text("cut.gguf", "GGUF\3");
    CHECK("half a GGUF file", 1, SAYS("cut.gguf", "truncated"), "inspect", in_root("cut.gguf"));
    CHECK("model missing", 1, SAYS("nowhere"), "generate", "-m", in_root("nowhere"), "-p", "a cube",
          "-o", in_root("out.png"));
    CHECK("model missing, train", 1, SAYS("nowhere"), "train", "-m", in_root("nowhere"),
          "--train-data-dir", in_root("data"), "-o", in_root("out"));
    CHECK("model missing, evaluate", 1, SAYS("nowhere"), "pretrain", "--evaluate",
          in_root("nowhere"));
    CHECK("single file without tokenizer", 1, SAYS("--tokenizer", "tools/clip-vocab.sh"),
          "generate", "-m", in_root("model.safetensors"), "-p", "a cube", "-o", in_root("out.png"));
    CHECK("ControlNet of another base", 1, SAYS("widths", "don't fit"), "generate", "-m",
          in_root("wide"), "-p", "a cube", "-s", "1", "--control-net", in_root("control"),
          "--control-image", in_root("good.png"), "-o", in_root("out.png"));
    CHECK("ControlNet of another base, train", 1, SAYS("/control", "widths"), "train", "-m",
          in_root("wide"), "--controlnet-model-name-or-path", in_root("control"),
          "--train-data-dir", in_root("data"), "--resolution", "16", ONE_STEP, "-o",
          in_root("out"));
    must(tiny_model_write(ctx, "tests/golden/sd2/core", "tests/golden/sd2/pipelines/merges.json",
                          in_root("sd2")) == CN_OK,
         "sd2");
    CHECK("ControlNet for another text encoder", 1,
          SAYS("sd2/controlnet_a", "text encoder of width 64"), GENERATE, "--control-net",
          in_root("sd2/controlnet_a"), "--control-image", in_root("good.png"), "-o",
          in_root("out.png"));
    tiny_dir_remove(in_root("sd2"));
    CHECK("ControlNet as base", 1, SAYS("/control"), "generate", "-m", in_root("control"), "-p",
          "a cube", "-o", in_root("out.png"));
    CHECK("base as ControlNet", 1, SAYS("/model"), GENERATE, "--control-net", in_root("model"),
          "--control-image", in_root("good.png"), "-o", in_root("out.png"));
    CHECK("picture as model", 1, SAYS("good.png"), "generate", "-m", in_root("good.png"), "-p",
          "a cube", "-o", in_root("out.png"));
}

/* --- cases: prompts, embeddings, LoRA --------------------------------------------------------- */

/* A file of two F32 matrices, [8,2] called `first` and [2,8] called `second`, of one value. */
static void put_pair_of(const char *name, const char *first, const char *second, float value)
{
    float values[16];
    for (int i = 0; i < 16; i++) values[i] = value;
    const cn_tensor_out list[] = {
        {.name = first, .dtype = CN_F32, .ndim = 2, .shape = {8, 2}, .data = values},
        {.name = second, .dtype = CN_F32, .ndim = 2, .shape = {2, 8}, .data = values}};
    must(cn_safetensors_write(ctx, in_root(name), list, 2, NULL, NULL, NULL) == CN_OK, name);
}

static void put_pair(const char *name, const char *first, const char *second)
{
    put_pair_of(name, first, second, 0);
}

static void bad_prompts(void)
{
    const char *out = in_root("out.png");
    CHECK("unknown prompt style", 2, SAYS("fancy", "plain", "webui"), GENERATE, "--prompt-style",
          "fancy", "-o", out);
    CHECK("unknown prediction", 2, SAYS("x0", "epsilon"), GENERATE, "--prediction", "x0", "-o",
          out);
    CHECK("weight that is no number", 1, SAYS("1.2.3"), GENERATE, "--prompt-style", "webui", "-p",
          "(red:1.2.3)", "-o", out);
    CHECK("embedding missing", 1, SAYS("nothing.pt"), GENERATE, "--embedding",
          in_root("nothing.pt"), "-o", out);
    CHECK("model as embedding", 1, SAYS("model.safetensors", "textual inversion"), GENERATE,
          "--embedding", in_root("model.safetensors"), "-o", out);
    CHECK("embedding of another width", 1, SAYS("bad-dog.pt", "32 wide"), GENERATE, "--embedding",
          "tests/golden/prompts/bad-dog.pt", "-o", out);
    CHECK("folder of embeddings missing", 1, SAYS("nowhere"), GENERATE, "--embeddings-dir",
          in_root("nowhere"), "-o", out);
}

/* tests/unit/test_steering.c has the files. */
static void bad_steering(void)
{
    const char *out = in_root("out.png");
    put_pair("lite.safetensors", "lllite_unet_x.conditioning1.0.weight",
             "lllite_unet_x.down.0.weight");
    CHECK("LLLite that is none", 1, SAYS("lite.safetensors", "square convolution"), GENERATE,
          "--control-net", in_root("lite.safetensors"), "--control-image", in_root("good.png"),
          "-o", out);
    CHECK("type of condition for a ControlNet", 1, SAYS("/control", "no ControlNet Union"),
          GENERATE, "--control-net", in_root("control"), "--control-type", "canny",
          "--control-image", in_root("good.png"), "-o", out);
    CHECK("type of condition without an image", 2, SAYS("--control-type depth", "--control-image"),
          GENERATE, "--control-net", in_root("control"), "--control-type", "canny",
          "--control-image", in_root("good.png"), "--control-type", "depth", "-o", out);
    CHECK("another way of attention", 2, SAYS("sideways", "conditions-only"), GENERATE,
          "--control-net", in_root("control"), "--union-attention", "sideways", "-o", out);
    CHECK("sizes for another family", 1, SAYS("/model", "SDXL"), GENERATE, "--crop", "0,0", "-o",
          out);
    CHECK("second prompt for one encoder", 1, SAYS("one encoder"), GENERATE, "--prompt-2", "a cube",
          "-o", out);
}

/* The small adapters are of another base, whose text is 32 wide. */
static void bad_image_prompts(void)
{
    static const char adapter[] = "tests/golden/ip_adapter/plain.safetensors";
    const char *out = in_root("out.png"), *image = in_root("good.png");
    CHECK("image prompt without an adapter", 2, SAYS("--image-prompt needs --ip-adapter"), GENERATE,
          "--image-prompt", image, "-o", out);
    CHECK("adapter without an image prompt", 2, SAYS("plain.safetensors needs --image-prompt"),
          GENERATE, "--ip-adapter", adapter, "-o", out);
    CHECK("adapter of another base", 1, SAYS("plain.safetensors", "width 32", "base model's text"),
          GENERATE, "--ip-adapter", adapter, "--image-prompt", image, "-o", out);
    CHECK("ControlNet as adapter", 1, SAYS("/control", "holds a ControlNet, an IP-Adapter"),
          GENERATE, "--image-prompt", image, "--ip-adapter", in_root("control"), "-o", out);
    CHECK("ControlNet as image encoder", 1, SAYS("/control", "image encoder"), GENERATE,
          "--image-encoder", in_root("control"), "-o", out);
    CHECK("adapter as image encoder", 1, SAYS("plain.safetensors", "CLIP vision encoder"), GENERATE,
          "--image-encoder", adapter, "-o", out);
    CHECK("image encoder missing", 1, SAYS("nowhere"), GENERATE, "--image-encoder",
          in_root("nowhere"), "-o", out);
    put_pair("face.safetensors", "ip_adapter.1.to_k_ip.weight", "image_proj.perceiver.weight");
    CHECK("FaceID", 1, SAYS("face.safetensors", "FaceID"), GENERATE, "--ip-adapter",
          in_root("face.safetensors"), "--image-prompt", image, "-o", out);
}

static void bad_refiners(void)
{
    const char *out = in_root("out.png");
    CHECK("refiner missing", 1, SAYS("nowhere"), GENERATE, "--refiner", in_root("nowhere"), "-o",
          out);
    CHECK("ControlNet as refiner", 1, SAYS("/control", "base model"), GENERATE, "--refiner",
          in_root("control"), "-o", out);
    CHECK("refiner from the beginning", 1, SAYS("--refiner-start 0 ", "no step"), GENERATE,
          "--refiner", in_root("model"), "--refiner-start", "0", "-o", out);
    CHECK("refiner with a second pass", 1, SAYS("--hires-scale", "refiner"), GENERATE, "--refiner",
          in_root("model"), "--hires-scale", "2", "-o", out);
    CHECK("refiner beyond the end", 2, SAYS("--refiner-start", "0 to 1"), GENERATE, "--refiner",
          in_root("model"), "--refiner-start", "1.5", "-o", out);
}

static void bad_loras(void)
{
    const char *out = in_root("out.png");
    put_pair("flux.safetensors", "lora_unet_double_blocks_0_img.lora_up.weight",
             "lora_unet_double_blocks_0_img.lora_down.weight");
    put_pair("large.safetensors", "lora_unet_conv_in.lora_up.weight",
             "lora_unet_conv_in.lora_down.weight");
    put_pair("oft.safetensors", "lora_unet_conv_in.oft_blocks",
             "lora_unet_conv_in.lora_down.weight");
    put_pair_of("nan.safetensors", "lora_unet_conv_in.lora_up.weight",
                "lora_unet_conv_in.lora_down.weight", NAN);
    must(mkdir(in_root("loras"), 0755) == 0, "loras");
    CHECK("LoRA missing", 1, SAYS("nothing.safetensors"), GENERATE, "--lora",
          in_root("nothing.safetensors"), "-o", out);
    CHECK("LoRA whose names match nothing", 1, SAYS("flux.safetensors", "none of its 1 modules"),
          GENERATE, "--lora", in_root("flux.safetensors"), "-o", out);
    CHECK("LoRA of another base", 1, SAYS("large.safetensors", "conv_in", "another base"), GENERATE,
          "--lora", in_root("large.safetensors"), "-o", out);
    CHECK("LoRA of an unknown kind", 1, SAYS("oft.safetensors", "oft_blocks", "OFT"), GENERATE,
          "--lora", in_root("oft.safetensors"), "-o", out);
    CHECK("LoRA without numbers", 1, SAYS("nan.safetensors", "lora_down", "no number"), GENERATE,
          "--lora", in_root("nan.safetensors"), "-o", out);
    CHECK("folder without a LoRA", 1, SAYS("loras", "adapter_model.safetensors"), GENERATE,
          "--lora", in_root("loras"), "-o", out);
    CHECK("model as LoRA", 1, SAYS("model.safetensors", "a LoRA is expected"), GENERATE, "--lora",
          in_root("model.safetensors"), "-o", out);
    CHECK("LoRA far too strong", 2, SAYS("--lora", "-100"), GENERATE, "--lora",
          "x.safetensors:1000", "-o", out);
    CHECK("LoRA as base", 1, SAYS("flux.safetensors", "a LoRA"), "generate", "-m",
          in_root("flux.safetensors"), "-p", "a cube", "-o", out);
    CHECK("LoRA in a prompt without a folder", 1, SAYS("--lora-dir"), GENERATE, "--prompt-style",
          "webui", "-p", "<lora:red:1>", "-o", out);
    CHECK("LoRA in a prompt that isn't there", 1, SAYS("loras", "red.safetensors"), GENERATE,
          "--lora-dir", in_root("loras"), "-p", "a <lora:red:0.5> cube", "-o", out);
    CHECK("LoRA's weight in a prompt", 1, SAYS("much"), GENERATE, "--lora-dir", in_root("loras"),
          "-p", "a <lora:red:much> cube", "-o", out);
    CHECK("folder of LoRAs missing", 1, SAYS("nowhere"), GENERATE, "--lora-dir", in_root("nowhere"),
          "-o", out);
}

/* --- cases: pictures and data sets ------------------------------------------------------------ */

static void bad_pictures(void)
{
    static const char *const names[] = {"text.png", "zero.png", "huge.png", "wide.png",
                                        "cut.png",  "none.png", "empty.png"};
    char title[128];
    put_text("text.png", "This is no picture.\n");
    put_text("empty.png", "");
    put_png("zero.png", 0, 0);
    put_png("huge.png", 100000, 100000);
    put_png("wide.png", 100000, 1);
    put_part("cut.png", "good.png", 1, 2);
    for (size_t i = 0; i < CN_COUNT(names); i++) {
        snprintf(title, sizeof title, "annotate %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), "annotate", "canny", in_root(names[i]), "-o",
              in_root("out.png"));
        snprintf(title, sizeof title, "condition image %s", names[i]);
        CHECK(title, 1, SAYS(names[i]), GENERATE, "--control-net", in_root("control"),
              "--control-image", in_root(names[i]), "-o", in_root("out.png"));
    }
}

static void bad_data_set(const char *title, const char *prompt_json, const char *word,
                         const char *second)
{
    put_text("data/prompt.json", prompt_json);
    CHECK(title, 1, SAYS(word, second), TRAIN_ON(in_root("data")), ONE_STEP, "-o", in_root("out"));
}

static void bad_data_sets(void)
{
#define GOOD_LINE \
    "{\"source\": \"source/0.png\", \"target\": \"target/0.png\", \"prompt\": \"a\"}\n"
    bad_data_set("prompt.json with a line that is no JSON", GOOD_LINE "{\"source\": \n",
                 "prompt.json", "2");
    bad_data_set("prompt.json with a list", GOOD_LINE "[1, 2]\n", "prompt.json", "2");
    bad_data_set("prompt.json without a prompt",
                 GOOD_LINE "{\"source\": \"source/0.png\", \"target\": \"target/0.png\"}\n",
                 "prompt.json", "2");
    bad_data_set("prompt.json with a number as file",
                 "{\"source\": 5, \"target\": \"target/0.png\", \"prompt\": \"a\"}\n",
                 "prompt.json", "1");
    bad_data_set(
        "prompt.json naming a missing file",
        GOOD_LINE
        "{\"source\": \"source/no.png\", \"target\": \"target/0.png\", \"prompt\": \"a\"}\n",
        "source/no.png", NULL);
    bad_data_set(
        "prompt.json naming a file of another ending",
        "{\"source\": \"source/0.jpg\", \"target\": \"target/0.png\", \"prompt\": \"a\"}\n",
        "source/0.jpg", "there is a file 0.png");
    bad_data_set(
        "prompt.json of another machine",
        "{\"source\": \"D:\\\\set\\\\0.png\", \"target\": \"target/0.png\", \"prompt\": \"a\"}\n",
        "D:\\set\\0.png is missing", "prompt.json:1");
    bad_data_set(
        "prompt.json with another name for the prompt",
        "{\"source\": \"source/0.png\", \"target\": \"target/0.png\", \"caption\": \"a\"}\n",
        "it has source, target, caption", "--caption-column");
    bad_data_set("prompt.json of binary zeros", "\x01\x02\xff\xfe\n", "prompt.json", "1");
    bad_data_set("empty prompt.json", "", "prompt.json", NULL);
    put_text("data/source/0.png", "This is no picture.\n");
    bad_data_set("data set with a text as picture", GOOD_LINE GOOD_LINE, "source/0.png", NULL);
    put_text("data/metadata.csv", "image,text\ntarget/0.png,a\n");
    CHECK("two lists in a folder", 1, SAYS("prompt.json", "metadata.csv"),
          TRAIN_ON(in_root("data")), "-o", in_root("out"));
    must(unlink(in_root("data/prompt.json")) == 0, "prompt.json");
    CHECK("metadata.csv without conditions", 1, SAYS("metadata.csv", "conditioning_image"),
          TRAIN_ON(in_root("data")), "-o", in_root("out"));
    must(unlink(in_root("data/metadata.csv")) == 0, "metadata.csv");
    CHECK("twin folders without a partner", 1, SAYS("no condition"),
          TRAIN_ON(in_root("data/target")), "--conditioning-data-dir", in_root("model"), "-o",
          in_root("out"));
    must(cn_dir_make(ctx, in_root("parquet")) == CN_OK, "parquet");
    put_text("parquet/0.parquet", "PAR1");
    CHECK("Parquet files", 1, SAYS("Parquet", "tools/from-parquet.py"),
          TRAIN_ON(in_root("parquet")), "-o", in_root("out"));
    put_text("pairs.zip", "PK");
    CHECK("a zip of pairs", 1, SAYS("pairs.zip", "unpack"), TRAIN_ON(in_root("pairs.zip")), "-o",
          in_root("out"));
    put_text("shard-0.tar", "This is no tar file.\n");
    CHECK("a shard that is no tar file", 1, SAYS("shard-0.tar"), TRAIN_ON(in_root("shard-0.tar")),
          "-o", in_root("out"));
    CHECK("a shard missing", 1, SAYS("shard-1.tar"), TRAIN_ON(in_root("shard-{0..1}.tar")), "-o",
          in_root("out"));
    CHECK("data set missing", 1, SAYS("nowhere"), TRAIN_ON(in_root("nowhere")), "-o",
          in_root("out"));
    CHECK("folder without a list", 1, SAYS("/model"), TRAIN_ON(in_root("model")), "-o",
          in_root("out"));
#undef GOOD_LINE
}

/* --- cases: outputs --------------------------------------------------------------------------- */

/* Below a file there can be no folder, not even for root. */
static void unwritable(void)
{
    const char *png = in_root("good.png/out.png"), *dir = in_root("good.png/out");
    CHECK("generate into a file's inside", 1, SAYS("good.png"), GENERATE, "-o", png);
    CHECK("generate into a folder that isn't there", 1, SAYS("nowhere"), GENERATE, "-o",
          in_root("nowhere/out.png"));
    CHECK("generate over a folder", 1, SAYS("/model"), GENERATE, "-o", in_root("model"));
    CHECK("annotate into a file's inside", 1, SAYS("good.png"), "annotate", "canny",
          in_root("good.png"), "-o", png);
    CHECK("convert into a file's inside", 1, SAYS("good.png"), "convert", in_root("model"), dir);
    CHECK("train into a file's inside", 1, SAYS("good.png"), TRAIN_ON(in_root("data")), ONE_STEP,
          "-o", dir);
    CHECK("scenes into a file's inside", 1, SAYS("good.png"), "dataset", "scenes", dir, "-n", "1");
    CHECK("pretrain into a file's inside", 1, SAYS("good.png"), "pretrain", "-o", dir);
    CHECK("sheet into a file's inside", 1, SAYS("good.png"), "pretrain", "--evaluate",
          in_root("model"), "--sheet", png);
}

/* Commands that write, each to a disk of `file_bytes` a file, or to the full disk at `where`. */
static void full_disk(const char *how, rlim_t file_bytes, const char *where)
{
    char title[128], png[128], dir[128], file[128];
    snprintf(png, sizeof png, "%s/out.png", where);
    snprintf(dir, sizeof dir, "%s/out", where);
    snprintf(file, sizeof file, "%s/out.safetensors", where);
#define FULL(command, expected, whole_ones, ...)             \
    snprintf(title, sizeof title, "%s to %s", command, how); \
    check(&(const bad_case){.name = title,                   \
                            .status = 1,                     \
                            .words = {expected},             \
                            .args = {__VA_ARGS__},           \
                            .file_bytes = file_bytes,        \
                            .may_write = whole_ones})
    FULL("generate", "out.png", false, GENERATE, "-o", png);
    FULL("annotate", "out.png", false, "annotate", "none", in_root("good.png"), "-o", png);
    FULL("convert to a file", "out.safetensors", false, "convert", in_root("model"), file);
    FULL("convert to a folder", "out", true, "convert", in_root("model"), dir);
    snprintf(dir, sizeof dir, "%s/trained", where);
    FULL("train", "trained", true, TRAIN_ON(in_root("data")), ONE_STEP, "-o", dir);
    snprintf(dir, sizeof dir, "%s/scenes", where);
    FULL("scenes", "scenes", true, "dataset", "scenes", dir, "-n", "20", "--size", "64");
    snprintf(dir, sizeof dir, "%s/shards", where);
    FULL("shards", "shards", true, "dataset", "prepare", "scenes:20?size=64", "--condition",
         "canny", "--layout", "webdataset", "-o", dir);
#undef FULL
}

static void full_disks(void)
{
    const char *disk = in_root("disk");
    check(&(const bad_case){.name = "results to a full disk",
                            .status = 1,
                            .words = {"standard output"},
                            .args = {"inspect", in_root("model")},
                            .output = "/dev/full"});
    must(mkdir(in_root("limit"), 0755) == 0, "limit");
    full_disk("files of 64 bytes", 64, in_root("limit"));
    must(mkdir(disk, 0755) == 0, disk);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", disk, "tmpfs", 0, "size=4k") != 0) {
        report_skip(&report, "7 commands on a full disk: a tmpfs can't be mounted here: %s",
                    strerror(errno));
        return;
    }
    put_text("disk/full", "");
    const int f = open(in_root("disk/full"), O_WRONLY | O_APPEND);
    char page[512] = {0};
    while (write(f, page, sizeof page) == (ssize_t)sizeof page) continue;
    close(f);
    full_disk("a full disk", 0, disk);
    must(umount(disk) == 0, disk);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* A picture and latents of 48 x 16. */
static void put_flat_ones(void)
{
    static const float zeros[4 * 12 * 4];
    const cn_tensor_out latents = {
        .name = "latents", .dtype = CN_F32, .ndim = 4, .shape = {1, 4, 4, 12}, .data = zeros};
    cn_image *flat = NULL;
    must(cn_image_create(ctx, 48, 16, &flat) == CN_OK, "flat.png");
    must(cn_image_save_png(ctx, in_root("flat.png"), flat, NULL) == CN_OK, "flat.png");
    cn_image_destroy(flat);
    must(cn_safetensors_write(ctx, in_root("flat.safetensors"), &latents, 1, NULL, NULL, NULL) ==
             CN_OK,
         "flat.safetensors");
}

/* A base, one twice as wide, a single file, pairs, a ControlNet trained for one step, a picture. */
static void make_good_ones(void)
{
    must(tiny_base_write(ctx, in_root("model"), 8) == CN_OK, "model");
    must(tiny_base_write(ctx, in_root("wide"), 16) == CN_OK, "wide");
    must(tiny_scenes_write(ctx, in_root("data"), 8) == CN_OK, "data");
    put_part("good.png", "data/target/0.png", 1, 1);
    must(tiny_model_write(ctx, "tests/golden/core", "tests/golden/pipelines/merges.json",
                          in_root("published")) == CN_OK,
         "published");
    put_part("model.safetensors", "published/model.safetensors", 1, 1);
    tiny_dir_remove(in_root("published"));
    put_flat_ones();
    PREPARE(TRAIN_ON(in_root("data")), ONE_STEP, "--checkpointing-steps", "0", "-o",
            in_root("control"));
    PREPARE(GENERATE, "--control-net", in_root("control"), "--control-image", in_root("good.png"),
            "-o", in_root("drawn.png"));
}

int main(int argc, char **argv)
{
    if (!bad_open(argc, argv)) return 1;
    make_good_ones();
    wrong_usage();
    bad_safetensors();
    bad_folder();
    bad_pickles();
    wrong_models();
    bad_prompts();
    bad_loras();
    bad_steering();
    bad_image_prompts();
    bad_refiners();
    bad_pictures();
    unwritable();
    full_disks();
    bad_data_sets();
    return bad_close();
}
