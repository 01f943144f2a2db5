/* SPDX-License-Identifier: Apache-2.0 */
/* Folders to conditions and to training sets through the public calls: names, chance, labels of
 * three data sets, captions from four places, going on, failures. */
#include "../support/tiny_base.h"

#include "controlnet.h"
#include "image/image.h"
#include "data/dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/cn-prepare-XXXXXX";
static cn_ctx *ctx;

static const char *at(int slot, const char *name)
{
    static char path[4][512];
    snprintf(path[slot], sizeof path[slot], "%s/%s", folder, name);
    return path[slot];
}

static void put(const char *name, const char *text)
{
    assert_int_equal(cn_file_write(ctx, at(0, name), text, strlen(text)), CN_OK);
}

/* A picture of blobs, another for each seed. */
static void put_picture(const char *name, int64_t width, int64_t height, int seed)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, width, height, &image), CN_OK);
    for (int64_t i = 0; i < width * height; i++) {
        const int64_t x = i % width / 9, y = i / width / 7;
        memset(image->rgb + 3 * i, (int)(37 * x + 91 * y * x + 50 * seed) & 255, 3);
    }
    assert_int_equal(cn_image_save_png(ctx, at(0, name), image, NULL), CN_OK);
    cn_image_destroy(image);
}

/* A grey picture of one value. */
static void put_labels(const char *name, int64_t width, int64_t height, uint8_t value)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(ctx, width, height, &image), CN_OK);
    memset(image->rgb, value, (size_t)(3 * width * height));
    assert_int_equal(cn_image_save_png(ctx, at(0, name), image, NULL), CN_OK);
    cn_image_destroy(image);
}

static void make_folder(const char *name)
{
    assert_int_equal(cn_dir_make(ctx, at(0, name)), CN_OK);
}

static cn_image *load(const char *name)
{
    cn_image *image = NULL;
    if (cn_image_load(ctx, at(0, name), &image) != CN_OK) fail_msg("%s", cn_error(ctx));
    return image;
}

static void expect_pixel(const char *name, int64_t width, int64_t height, const uint8_t rgb[3])
{
    cn_image *image = load(name);
    assert_int_equal(image->width, width);
    assert_int_equal(image->height, height);
    assert_memory_equal(image->rgb + 3 * (width * (height / 2) + width / 2), rgb, 3);
    cn_image_destroy(image);
}

static void expect_text(const char *name, const char *text)
{
    char *have = NULL;
    size_t n;
    if (cn_file_read(ctx, at(0, name), 1 << 20, &have, &n) != CN_OK) fail_msg("%s", cn_error(ctx));
    if (!strstr(have, text)) fail_msg("%s: '%s' is not in '%s'", name, text, have);
    cn_free(have);
}

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    if (!ctx || !mkdtemp(folder)) return -1;
    make_folder("photos/sub");
    put_picture("photos/a.png", 96, 64, 1);
    put_picture("photos/b.png", 64, 80, 2);
    put_picture("photos/sub/c.png", 70, 70, 3);
    put("photos/a.txt", " a picture\nof blobs \n");
    put("photos/b.caption", "another");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(folder);
    return 0;
}

/* --- conditions of a folder ------------------------------------------------------------------- */

static void expect_many(const char *kind, const cn_annotate_folder_options *o, const char *in,
                        const char *out, cn_status status, int64_t made, int64_t kept)
{
    cn_annotate_result r;
    const cn_status s = cn_annotate_folder(ctx, kind, o, at(1, in), at(2, out), &r);
    if (s != status) fail_msg("%s: status %d: %s", kind, s, cn_error(ctx));
    assert_int_equal(r.made, made);
    assert_int_equal(r.kept, kept);
}

static void thresholds_follow_seed_and_name(void **state)
{
    (void)state;
    const cn_annotate_folder_options one = {.recursive = true,
                                            .random_thresholds = true,
                                            .seed = 1},
                                     two = {
                                         .recursive = true, .random_thresholds = true, .seed = 2};
    char *first = NULL, *second = NULL;
    size_t n, m;
    expect_many("canny", &one, "photos", "canny1", CN_OK, 3, 0);
    expect_many("canny", &one, "photos", "canny1", CN_OK, 0, 3);
    expect_many("canny", &two, "photos", "canny2", CN_OK, 3, 0);
    expect_many("canny", &one, "photos", "canny2", CN_OK, 3, 0); /* other options: made anew */
    expect_text("canny2/annotate.jsonl", "random-thresholds seed=1");
    expect_text("canny2/annotate.jsonl", "\"file\":\"sub/c.png\"");
    static const char *const names[] = {"a.png", "b.png", "sub/c.png"};
    for (int i = 0; i < 3; i++) {
        char one_name[64], two_name[64];
        snprintf(one_name, sizeof one_name, "canny1/%s", names[i]);
        snprintf(two_name, sizeof two_name, "canny2/%s", names[i]);
        assert_int_equal(cn_file_read(ctx, at(0, one_name), 1 << 20, &first, &n), CN_OK);
        assert_int_equal(cn_file_read(ctx, at(0, two_name), 1 << 20, &second, &m), CN_OK);
        assert_int_equal(n, m);
        assert_memory_equal(first, second, n);
        cn_free(first);
        cn_free(second);
    }
}

static void kinds_behind_each_other(void **state)
{
    (void)state;
    const cn_annotate_folder_options o = {.annotate = {.resolution = 64}};
    cn_image *edges, *turned;
    expect_many("canny | invert", &o, "photos/a.png", "chain.png", CN_OK, 1, 0);
    expect_many("canny", &o, "photos/a.png", "edges.png", CN_OK, 1, 0);
    edges = load("edges.png");
    turned = load("chain.png");
    assert_int_equal(edges->height, 64);
    for (int64_t i = 0; i < 3 * edges->width * edges->height; i++)
        assert_int_equal(edges->rgb[i], 255 - turned->rgb[i]);
    cn_image_destroy(edges);
    cn_image_destroy(turned);
}

static void pixel_perfect_sizes(void **state)
{
    (void)state;
    assert_int_equal(cn_pixel_perfect_resolution(600, 400, 512, 512, false), 512);
    assert_int_equal(cn_pixel_perfect_resolution(600, 400, 512, 512, true), 341);
    assert_int_equal(cn_pixel_perfect_resolution(400, 600, 768, 512, false), 768);
    assert_int_equal(cn_pixel_perfect_resolution(400, 600, 768, 512, true), 341);
    assert_int_equal(cn_pixel_perfect_resolution(1000, 8, 512, 512, true), 4);
    const cn_annotate_folder_options o = {.fit_width = 128, .fit_height = 192};
    expect_many("canny", &o, "photos/b.png", "fit.png", CN_OK, 1, 0);
    cn_image *image = load("fit.png");
    assert_int_equal(image->width, 128); /* 64 x 80 fills 128 x 192 at 154, in steps of 64 */
    assert_int_equal(image->height, 192);
    cn_image_destroy(image);
}

static void what_does_not_go_together(void **state)
{
    (void)state;
    static const cn_annotate_folder_options sized = {.annotate = {.resolution = 64}},
                                            drawn = {.random_thresholds = true},
                                            both = {.annotate = {.resolution = 64},
                                                    .fit_width = 64,
                                                    .fit_height = 64};
    const struct {
        const char *kind;
        const cn_annotate_folder_options *o;
        const char *in, *message;
    } cases[] = {
        {"canni", NULL, "photos", "no annotator is called 'canni'"},
        {"canny | nothing", NULL, "photos", "no annotator is called 'nothing'"},
        {"canny | seg_coco", NULL, "photos", "can't stand behind another kind"},
        {"canny|canny|canny|canny|canny", NULL, "photos", "more than 4"},
        {"invert", &drawn, "photos", "no thresholds"},
        {"seg_ade", &sized, "photos", "leave out the resolution"},
        {"canny", &both, "photos", "pixel perfect, which computes it"},
        {"canny", NULL, "nowhere", "nowhere"},
        {"normal_diode", NULL, "photos/a.png", "takes .npy arrays"},
        {"normal_diode", NULL, "photos", "no .npy arrays in it"},
        {"seg_coco", NULL, "photos/a.png", "not valid JSON"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_annotate_result r;
        assert_int_not_equal(
            cn_annotate_folder(ctx, cases[i].kind, cases[i].o, at(1, cases[i].in), at(2, "no"), &r),
            CN_OK);
        if (!strstr(cn_error(ctx), cases[i].message))
            fail_msg("%s: '%s'", cases[i].kind, cn_error(ctx));
    }
    assert_int_equal(cn_annotate_folder(ctx, "canny", NULL, at(1, "photos"), at(2, "photos"), NULL),
                     CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "written over the pictures"));
}

/* --- training sets ---------------------------------------------------------------------------- */

static cn_prepare_result expect_prepared(const cn_prepare_options *o, cn_status status,
                                         int64_t pairs, int64_t failed)
{
    cn_prepare_result r;
    const cn_status s = cn_dataset_prepare(ctx, o, &r);
    if (s != status) fail_msg("status %d: %s", s, cn_error(ctx));
    assert_int_equal(r.pairs, pairs);
    assert_int_equal(r.failed, failed);
    return r;
}

/* The set as train reads it: the number of pairs, and the prompt of pair i. */
static void expect_set(const char *dir, int64_t n, int64_t i, const char *prompt)
{
    const cn_dataset_options o = {.dir = at(3, dir)};
    cn_dataset *d = NULL;
    cn_dataset_item item;
    cn_image *condition = NULL, *target = NULL;
    if (cn_dataset_open(ctx, &o, &d) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(d->n, n);
    assert_int_equal(cn_dataset_get(ctx, d, i, true, &item), CN_OK);
    assert_string_equal(item.prompt, prompt);
    cn_dataset_item_free(&item);
    for (int64_t k = 0; k < n; k++) {
        assert_int_equal(cn_dataset_load(ctx, d, k, 0, 0, &condition, &target), CN_OK);
        assert_int_equal(condition->width, target->width);
        assert_int_equal(condition->height, target->height);
        cn_image_destroy(condition);
        cn_image_destroy(target);
    }
    cn_dataset_close(d);
}

static void photographs_with_captions(void **state)
{
    (void)state;
    const char *const canny[] = {"canny low=50", NULL};
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "photos"), NULL},
                            .output_dir = at(2, "set"),
                            .conditions = canny,
                            .recursive = true,
                            .caption = "of nothing"};
    cn_prepare_result r = expect_prepared(&o, CN_OK, 3, 0);
    assert_int_equal(r.without_caption, 1);
    expect_set("set", 3, 0, "a picture of blobs");
    expect_set("set", 3, 1, "another");
    expect_set("set", 3, 2, "of nothing");
    r = expect_prepared(&o, CN_OK, 3, 0);
    assert_int_equal(r.kept, 3);
    o.layout = "imagefolder";
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL); /* prompt.json is there */
    o.layout = NULL;
    put("photos/broken.png", "no picture");
    expect_prepared(&o, CN_EFORMAT, 3, 1);
    expect_set("set", 3, 2, "of nothing");
    unlink(at(0, "photos/broken.png"));
}

static void several_kinds_shrunk_in_place(void **state)
{
    (void)state;
    const char *const kinds[] = {"canny", "scribble_xdog", "canny low=10 | invert", NULL};
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "photos"), NULL},
                            .output_dir = at(2, "several"),
                            .conditions = kinds,
                            .resolution = 48,
                            .layout = "imagefolder"};
    expect_prepared(&o, CN_OK, 6, 0);
    expect_set("several", 6, 5, "another");
    cn_image *image = load("several/source/canny-2/a.png");
    assert_int_equal(image->width, 72);
    assert_int_equal(image->height, 48);
    cn_image_destroy(image);
    o = (cn_prepare_options){.sources = (const char *const[]){at(1, "photos"), NULL},
                             .output_dir = at(2, "referred"),
                             .conditions = kinds,
                             .refer = true};
    expect_prepared(&o, CN_OK, 6, 0);
    assert_false(cn_dir_exists(at(0, "referred/target")));
    expect_set("referred", 6, 0, "a picture of blobs");
}

static void captions_in_a_list(void **state)
{
    (void)state;
    const char *const canny[] = {"canny", NULL};
    make_folder("listed/x");
    put_picture("listed/x/a.png", 64, 64, 1);
    put_picture("listed/b.png", 64, 64, 2);
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "listed"), NULL},
                            .output_dir = at(2, "listed/out"),
                            .conditions = canny,
                            .recursive = true};
    put("listed/metadata.csv", "file_name,text\nb.png,\"one, two\"\n");
    expect_prepared(&o, CN_OK, 2, 0);
    expect_set("listed/out", 2, 0, "one, two");
    put("listed/metadata.jsonl", "{\"file_name\": \"x/a.png\", \"caption\": \"from a line\"}\n");
    expect_prepared(&o, CN_OK, 2, 0);
    expect_set("listed/out", 2, 0, "");
    expect_set("listed/out", 2, 1, "from a line");
    put("listed/metadata.jsonl", "{\"file_name\": \"x/a.png\"}\n");
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "metadata.jsonl:1"));
}

static void coco_by_its_folders(void **state)
{
    (void)state;
    static const char instances[] =
        "{\"images\": [{\"id\": 1, \"width\": 64, \"height\": 48, \"file_name\": \"a.png\"},"
        " {\"id\": 2, \"width\": 64, \"height\": 48, \"file_name\": \"gone.png\"}],"
        " \"annotations\": [{\"id\": 1, \"image_id\": 1, \"category_id\": 18,"
        " \"segmentation\": [[0, 0, 64, 0, 64, 48, 0, 48]]}]}";
    static const char captions[] =
        "{\"images\": [{\"id\": 1, \"width\": 64, \"height\": 48, \"file_name\": \"a.png\"}],"
        " \"annotations\": [{\"id\": 1, \"image_id\": 1, \"caption\": \"A dog.\"},"
        " {\"id\": 2, \"image_id\": 1, \"caption\": \"Still a dog.\"}]}";
    static const uint8_t dog[3] = {0, 226, 252};
    const char *const kind[] = {"seg_coco", NULL};
    make_folder("coco/val2017");
    make_folder("coco/annotations");
    put_picture("coco/val2017/a.png", 64, 48, 1);
    put("coco/annotations/instances_val2017.json", instances);
    put("coco/annotations/captions_val2017.json", captions);
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "coco/val2017"), NULL},
                            .output_dir = at(2, "coco_set"),
                            .conditions = kind};
    expect_prepared(&o, CN_OK, 1, 0);
    expect_set("coco_set", 1, 0, "A dog.");
    expect_pixel("coco_set/source/a.png", 64, 48, dog);
    o.all_captions = true;
    o.resolution = 24;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(ctx), "coco_set/prepare.txt: the folder holds"));
    o.resolution = 0;
    o.seed = 1;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
    o.seed = 0;
    o.resolution = 24;
    expect_pixel("coco_set/source/a.png", 64, 48, dog); /* as it was */
    o.output_dir = at(2, "coco_small");
    expect_prepared(&o, CN_OK, 2, 0);
    expect_set("coco_small", 2, 1, "Still a dog.");
    expect_pixel("coco_small/source/a.png", 32, 24, dog);
    put_picture("coco/val2017/unknown.png", 64, 48, 1);
    expect_prepared(&o, CN_EFORMAT, 2, 1);
    o.labels = at(3, "coco/annotations/nowhere.json");
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EIO);
    const cn_annotate_folder_options many = {0};
    expect_many("seg_coco", &many, "coco/annotations/instances_val2017.json", "coco_maps", CN_OK, 2,
                0);
    expect_pixel("coco_maps/a.png", 64, 48, dog);
}

static void ade_and_diode_by_their_folders(void **state)
{
    (void)state;
    static const uint8_t building[3] = {180, 120, 120}, up[3] = {127, 127, 255};
    const char *const ade[] = {"seg_ade", NULL}, *const diode[] = {"normal_diode", NULL};
    make_folder("ade/images/training");
    make_folder("ade/annotations/training");
    put_picture("ade/images/training/a.png", 64, 48, 1);
    put_labels("ade/annotations/training/a.png", 64, 48, 2);
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "ade/images/training"), NULL},
                            .output_dir = at(2, "ade_set"),
                            .conditions = ade,
                            .resolution = 24};
    expect_prepared(&o, CN_OK, 1, 0);
    expect_pixel("ade_set/source/a.png", 32, 24, building);
    o.sources = (const char *const[]){at(1, "photos"), NULL};
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "where they are must be said"));

    static const char header[] = "\x93NUMPY\1\0\x46\0{'descr': '<f4', 'fortran_order': False, "
                                 "'shape': (48, 64, 3)}             ";
    char file[80 + 48 * 64 * 3 * 4];
    memcpy(file, header, 80);
    for (int i = 0; i < 48 * 64 * 3; i++) {
        const float v = i % 3 == 2 ? 1 : 0;
        memcpy(file + 80 + 4 * i, &v, sizeof v);
    }
    make_folder("diode");
    put_picture("diode/a.png", 64, 48, 1);
    assert_int_equal(cn_file_write(ctx, at(0, "diode/a_normal.npy"), file, sizeof file), CN_OK);
    o = (cn_prepare_options){.sources = (const char *const[]){at(1, "diode"), NULL},
                             .output_dir = at(2, "diode_set"),
                             .conditions = diode};
    expect_prepared(&o, CN_OK, 1, 0);
    expect_pixel("diode_set/source/a.png", 64, 48, up);
    const cn_annotate_folder_options many = {0};
    expect_many("normal_diode", &many, "diode", "diode_maps", CN_OK, 1, 0);
    expect_pixel("diode_maps/a.png", 64, 48, up);
}

static void what_cannot_be_prepared(void **state)
{
    (void)state;
    const char *const none[] = {NULL}, *const unknown[] = {"canni", NULL};
    const char *const canny[] = {"canny", NULL};
    cn_prepare_options o = {.sources = (const char *const[]){at(1, "photos"), NULL},
                            .output_dir = at(2, "never"),
                            .conditions = none};
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    o.conditions = unknown;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    o.conditions = canny;
    o.layout = "zip";
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    o.layout = NULL;
    o.sources = (const char *const[]){at(1, "nowhere"), NULL};
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EIO);
    make_folder("empty");
    o.sources = (const char *const[]){at(1, "empty"), NULL};
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    assert_false(cn_dir_exists(at(0, "never")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_follow_seed_and_name),
        cmocka_unit_test(kinds_behind_each_other),
        cmocka_unit_test(pixel_perfect_sizes),
        cmocka_unit_test(what_does_not_go_together),
        cmocka_unit_test(photographs_with_captions),
        cmocka_unit_test(several_kinds_shrunk_in_place),
        cmocka_unit_test(captions_in_a_list),
        cmocka_unit_test(coco_by_its_folders),
        cmocka_unit_test(ade_and_diode_by_their_folders),
        cmocka_unit_test(what_cannot_be_prepared),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
