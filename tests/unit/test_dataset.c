/* SPDX-License-Identifier: Apache-2.0 */
/* test_dataset.c - the layouts of training pairs, every kind of hole in them, and the records'
 * store. */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "../support/unit/unit_pairs.h"
#include "data/condition.h"
#include "data/dataset.h"
#include "data/store.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

/* A folder root/name with the list and two pictures, a.png of w x h and b.png of 8 x 8. */
static const char *folder(const char *name, const char *list, const char *text, int64_t w,
                          int64_t h)
{
    static char dir[128];
    char path[256];
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    must(cn_dir_make(ctx, dir));
    snprintf(path, sizeof path, "%s/%s", dir, list);
    must(cn_file_write(ctx, path, text, strlen(text)));
    for (int i = 0; i < 2; i++) {
        cn_image *image = NULL;
        must(cn_image_create(ctx, i ? 8 : w, i ? 8 : h, &image));
        image->rgb[0] = 200;
        snprintf(path, sizeof path, "%s/%c.png", dir, 'a' + i);
        must(cn_image_save_png(ctx, path, image, NULL));
        cn_image_destroy(image);
    }
    return dir;
}

/* The pair's files end in these names and its prompt is this. */
static void expect(const cn_dataset *d, int64_t i, const char *where, const char *condition,
                   const char *target, const char *prompt)
{
    cn_dataset_item item;
    must(cn_dataset_get(ctx, d, i, true, &item));
    if (!strstr(item.where, where)) fail_msg("%s (wanted %s)", item.where, where);
    if (!strstr(item.condition.path, condition)) fail_msg("%s", item.condition.path);
    if (!strstr(item.target.path, target)) fail_msg("%s", item.target.path);
    assert_string_equal(item.prompt, prompt);
    cn_dataset_item_free(&item);
}

static void lists_are_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    must(open_at(folder("fill", "prompt.json",
                        "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
                        "\n{\"source\": \"b.png\", \"target\": \"a.png\", \"prompt\": \"\"}\n",
                        16, 8),
                 &d));
    assert_string_equal(cn_dataset_layout_name(d), "fill50k");
    assert_int_equal(d->n, 2);
    expect(d, 0, "prompt.json:1", "/a.png", "/b.png", "x");
    expect(d, 1, "prompt.json:3", "/b.png", "/a.png", "");
    cn_image *condition = NULL, *target = NULL;
    must(cn_dataset_load(ctx, d, 0, 4, 4, &condition, &target));
    assert_true(condition->width == 4 && condition->height == 4 && target->width == 4);
    cn_image_destroy(condition);
    cn_image_destroy(target);
    cn_dataset_close(d);
    must(open_at(
        folder(
            "face", "metadata.jsonl",
            "\xef\xbb\xbf{\"file_name\": \"b.png\", \"conditioning_image\": \"a.png\", \"text\": "
            "\"y\"}\r\n"
            "{\"image\": \"a.png\", \"conditioning_image_file_name\": \"b.png\", \"text\": "
            "[\"z\", \"w\"], \"k\": 1}",
            8, 8),
        &d));
    assert_string_equal(cn_dataset_layout_name(d), "imagefolder");
    assert_int_equal(d->n, 2);
    expect(d, 0, "metadata.jsonl:1", "/a.png", "/b.png", "y");
    expect(d, 1, "metadata.jsonl:2", "/b.png", "/a.png", "z");
    cn_dataset_close(d);
}

static void a_json_list_is_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    /* a byte order mark, brackets and commas in strings, elements over several lines */
    must(open_at(folder("json", "prompt.json",
                        "\xef\xbb\xbf \n[{\"source\": \"a.png\", \"target\": \"b.png\",\n"
                        " \"prompt\": \"x, ]}{[ \\\"y\\\"\"},\r\n"
                        "{\"source\": \"b.png\", \"target\": \"a.png\", \"prompt\": \"\"}\n]\n",
                        16, 16),
                 &d));
    assert_int_equal(d->n, 2);
    assert_string_equal(cn_dataset_layout_name(d), "json");
    expect(d, 0, "prompt.json: pair 1", "/a.png", "/b.png", "x, ]}{[ \"y\"");
    expect(d, 1, "prompt.json: pair 2", "/b.png", "/a.png", "");
    cn_dataset_close(d);
}

/* Each fault with the words that its message must have. */
static void bad_json_lists_are_named(void **state)
{
    (void)state;
#define PAIR "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}"
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[" PAIR ", {\"source\": \"a.png\", \"prompt\": \"x\"}]", "pair 2: \"target\""},
        {"[" PAIR ", {\"source\": \"no.png\", \"target\": \"b.png\", \"prompt\": \"x\"}]",
         "pair 2: no.png is missing"},
        {"[" PAIR, "',' or ']' expected"},
        {"[" PAIR ",]", "an object {...} expected"},
        {"[" PAIR ", 5]", "an object {...} expected"},
        {"[" PAIR ", {\"source\"}]", "not valid JSON"},
        {"[" PAIR "] " PAIR, "the end expected"},
        {"[]", "no training pairs"},
        {"[", "an object {...} expected"},
    };
#undef PAIR
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_dataset *d = NULL;
        const char *dir = folder("badjson", "prompt.json", cases[i].text, 16, 16);
        assert_int_equal(open_at(dir, &d), CN_EFORMAT);
        if (!strstr(cn_error(ctx), cases[i].says) || !strstr(cn_error(ctx), "prompt.json"))
            fail_msg("%s: %s", cases[i].text, cn_error(ctx));
    }
    cn_dataset *d = NULL; /* what can be used is, where that is asked for */
    must(cn_dataset_open(
        ctx,
        &(cn_dataset_options){.dir = folder("badjson", "prompt.json",
                                            "[{\"source\": \"no.png\", \"target\": \"b.png\", "
                                            "\"prompt\": \"x\"}, {\"source\": \"a.png\", "
                                            "\"target\": \"b.png\", \"prompt\": \"x\"}]",
                                            16, 16),
                              .skip_bad = true},
        &d));
    assert_true(d->n == 1 && d->skipped == 1);
    expect(d, 0, "pair 2", "/a.png", "/b.png", "x");
    cn_dataset_close(d);
}

static void csv_is_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    const char *dir = folder("csv/train", "metadata.csv",
                             "file_name,text,conditioning_image,edges\r\n"
                             "a.png,\"one, \"\"two\"\"\nthree\",b.png,a.png\r\n"
                             "b.png,,a.png,b.png\n",
                             8, 8);
    char above[128];
    snprintf(above, sizeof above, "%s/csv", root); /* a Hugging Face split in its folder */
    must(open_at(above, &d));
    assert_string_equal(cn_dataset_layout_name(d), "csv");
    assert_int_equal(d->n, 2);
    expect(d, 0, "metadata.csv:2", "/b.png", "/a.png", "one, \"two\"\nthree");
    expect(d, 1, "metadata.csv:4", "/a.png", "/b.png", "");
    cn_dataset_close(d);
    must(cn_dataset_open(
        ctx, &(cn_dataset_options){.dir = dir, .conditioning_image_column = "edges"}, &d));
    expect(d, 0, "metadata.csv:2", "/a.png", "/a.png", "one, \"two\"\nthree");
    cn_dataset_close(d);
    refused(cn_dataset_open(
                ctx, &(cn_dataset_options){.dir = dir, .conditioning_image_column = "depth"}, &d),
            CN_EINVAL, "depth");
    dir = folder("csv2", "metadata.csv",
                 "image,conditioning_image,text\na.png,b.png\na.png,\"b.png,x\n", 8, 8);
    refused(open_at(dir, &d), CN_EFORMAT, "metadata.csv:2");
    assert_non_null(strstr(cn_error(ctx), "1 more"));
}

static void put_picture(const char *path, int value)
{
    cn_image *image = NULL;
    must(cn_image_create(ctx, 8, 8, &image));
    image->rgb[0] = (uint8_t)value;
    must(cn_image_save_png(ctx, path, image, NULL));
    cn_image_destroy(image);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (text)
        must(cn_file_write(ctx, path, text, strlen(text)));
    else
        put_picture(path, name[0]);
}

static void twin_folders_are_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    char images[128], conditions[128];
    snprintf(images, sizeof images, "%s/twins/images", root);
    snprintf(conditions, sizeof conditions, "%s/twins/conditioning_images", root);
    must(cn_dir_make(ctx, images));
    must(cn_dir_make(ctx, conditions));
    put(images, "b.png", NULL);
    put(images, "b.txt", "  a caption\n");
    put(images, "a.webp.png", NULL);
    put(images, "a.webp.caption", "other");
    put(images, "notes.md", "x");
    put(conditions, "b.PNG", NULL);
    put(conditions, "a.webp.png", NULL);
    snprintf(images, sizeof images, "%s/twins", root);
    must(open_at(images, &d));
    assert_string_equal(cn_dataset_layout_name(d), "folders");
    assert_int_equal(d->n, 2);
    expect(d, 0, "images/a.webp.png", "conditioning_images/a.webp.png", "images/a.webp.png",
           "other");
    expect(d, 1, "images/b.png", "conditioning_images/b.PNG", "images/b.png", "a caption");
    expect_pictures(d, 1, 'b', 'b');
    cn_dataset_close(d);
    snprintf(images, sizeof images, "%s/twins/images", root);
    const cn_dataset_options given = {
        .dir = images, .conditioning_dir = conditions, .caption_extension = "txt"};
    must(cn_dataset_open(ctx, &given, &d));
    expect(d, 0, "", "", "", "");
    assert_non_null(strstr(d->found, "1 pictures have none"));
    cn_dataset_close(d);
    put(images, "c.png", NULL);
    put(conditions, "d.png", NULL);
    refused(cn_dataset_open(ctx, &given, &d), CN_EFORMAT, "images/c.png: no condition");
    assert_non_null(strstr(cn_error(ctx), "1 more"));
    cn_dataset_options skipping = given;
    skipping.skip_bad = true;
    must(cn_dataset_open(ctx, &skipping, &d));
    assert_true(d->n == 2 && d->skipped == 2);
    cn_dataset_close(d);
}

/* One member: a picture whose first byte is the name's first letter, or text. */
static void add_member(struct archive *a, const char *name, const char *text)
{
    char path[128], *data = NULL;
    size_t n = text ? strlen(text) : 0;
    if (!text) {
        const char *slash = strrchr(name, '/');
        snprintf(path, sizeof path, "%s/member.png", root);
        put_picture(path, slash ? slash[1] : name[0]);
        must(cn_file_read(ctx, path, 1 << 20, &data, &n));
    }
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_size(e, (la_int64_t)n);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, text ? text : data, n), (int)n);
    archive_entry_free(e);
    cn_free(data);
}

static struct archive *begin_tar(const char *name, bool pax, bool gzip)
{
    char path[128];
    struct archive *a = archive_write_new();
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (pax)
        archive_write_set_format_pax(a);
    else
        archive_write_set_format_gnutar(a);
    if (gzip) archive_write_add_filter_gzip(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    return a;
}

static void shards_are_read(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    char path[128], deep[320];
    snprintf(path, sizeof path, "%s/shards", root);
    must(cn_dir_make(ctx, path));
    memset(deep, 'd', 240); /* a name that takes a header of its own */
    struct archive *a = begin_tar("shards/s-08.tar", true, false);
    add_member(a, "p/0001.png", NULL);
    add_member(a, "p/0001.cond.png", NULL);
    add_member(a, "p/0001.txt", "first\n");
    snprintf(deep + 240, sizeof deep - 240, "%s", "/x.cond.png");
    add_member(a, deep, NULL);
    snprintf(deep + 240, sizeof deep - 240, "%s", "/x.jpg");
    add_member(a, deep, NULL);
    snprintf(deep + 240, sizeof deep - 240, "%s", "/x.json");
    add_member(a, deep, "{\"caption\": \"second\", \"style\": \"third\"}");
    archive_write_free(a);
    a = begin_tar("shards/s-09.tar", false, false);
    snprintf(deep + 240, sizeof deep - 240, "%s", "/y.depth.png");
    add_member(a, deep, NULL);
    snprintf(deep + 240, sizeof deep - 240, "%s", "/y.cond.png");
    add_member(a, deep, NULL);
    snprintf(deep + 240, sizeof deep - 240, "%s", "/y.png");
    add_member(a, deep, NULL);
    archive_write_free(a);
    must(open_at(path, &d));
    assert_string_equal(cn_dataset_layout_name(d), "webdataset");
    assert_int_equal(d->n, 3);
    expect(d, 0, "s-08.tar", "s-08.tar", "s-08.tar", "first");
    expect(d, 1, "s-08.tar", "s-08.tar", "s-08.tar", "second");
    expect(d, 2, "s-09.tar", "s-09.tar", "s-09.tar", "");
    expect_pictures(d, 0, '0', '0');
    expect_pictures(d, 1, 'x', 'x');
    expect_pictures(d, 2, 'y', 'y');
    cn_dataset_close(d);
    snprintf(path, sizeof path, "%s/shards/s-{08..09}.tar", root);
    const cn_dataset_options named = {
        .dir = path, .conditioning_image_column = "depth.png;cond.png", .caption_column = "style"};
    must(cn_dataset_open(ctx, &named, &d));
    expect(d, 1, "s-08.tar", "", "", "third");
    cn_dataset_close(d);
}

static void bad_shards_are_named(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    char path[128];
    struct archive *a = begin_tar("lone.tar", true, false);
    add_member(a, "0001.png", NULL);
    add_member(a, "0002.cond.png", NULL);
    add_member(a, "0003.txt", "x");
    archive_write_free(a);
    snprintf(path, sizeof path, "%s/lone.tar", root);
    refused(open_at(path, &d), CN_EFORMAT, "lone.tar: 0001: no member .cond.png");
    assert_non_null(strstr(cn_error(ctx), "1 more"));
    archive_write_free(begin_tar("packed.tar", true, true));
    snprintf(path, sizeof path, "%s/packed.tar", root);
    refused(open_at(path, &d), CN_EFORMAT, "gzip");
    put(root, "short.tar", "no tar file");
    snprintf(path, sizeof path, "%s/short.tar", root);
    refused(open_at(path, &d), CN_EFORMAT, "short.tar: damaged");
    snprintf(path, sizeof path, "%s/s-{0..1}.tar", root);
    refused(open_at(path, &d), CN_EIO, "s-0.tar");
    snprintf(path, sizeof path, "%s/s-{a..b}.tar", root);
    refused(open_at(path, &d), CN_EINVAL, "{000..099}");
}

static void count(void *user, const char *text)
{
    int *n = user;
    *n += strstr(text, "prompt.json:") != NULL;
}

static void every_hole_is_named(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    int n = 0;
    const char *dir =
        folder("holes", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "not json\n"
               "{\"source\": \"gone.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "{\"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "{\"source\": 5, \"target\": \"b.png\", \"prompt\": \"x\"}\n"
               "[1, 2]\n"
               "{\"source\": \"\", \"target\": \"b.png\", \"prompt\": \"x\"}\n",
               8, 8);
    refused(cn_dataset_open(
                ctx, &(cn_dataset_options){.dir = dir, .problem = count, .problem_user = &n}, &d),
            CN_EFORMAT, "prompt.json:2:");
    assert_non_null(strstr(cn_error(ctx), "5 more"));
    assert_int_equal(n, 6);
    dir =
        folder("gone", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"sub/gone.png\", \"prompt\": \"x\"}\n", 8, 8);
    refused(open_at(dir, &d), CN_EFORMAT, "sub/gone.png is missing");
    dir = folder("none", "prompt.json", "\n\n", 8, 8);
    refused(open_at(dir, &d), CN_EFORMAT, "no training pairs");
    dir = folder("other", "captions.txt", "x", 8, 8);
    refused(open_at(dir, &d), CN_EIO, "metadata.jsonl");
    refused(open_at("/nonexistent", &d), CN_EIO, "no such folder");
    folder("both", "prompt.json", "{}", 8, 8);
    dir = folder("both", "metadata.jsonl", "{}", 8, 8);
    refused(open_at(dir, &d), CN_EINVAL, "only one");
}

static void a_damaged_picture_is_named(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    cn_image *image = NULL;
    char path[256];
    const char *dir =
        folder("damaged", "prompt.json",
               "{\"source\": \"a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n", 8, 8);
    snprintf(path, sizeof path, "%s/a.png", dir);
    must(cn_file_write(ctx, path, "no picture", 10));
    must(open_at(dir, &d));
    refused(cn_dataset_load(ctx, d, 0, 8, 8, &image, NULL), CN_EFORMAT, "prompt.json:1");
    assert_null(image);
    cn_dataset_close(d);
    cn_dataset_report r;
    refused(cn_dataset_check(ctx, &(cn_dataset_options){.dir = dir}, NULL, &r), CN_EFORMAT,
            "1 of its pairs");
    assert_int_equal(r.problems, 1);
}

static void scenes_pass_the_check(void **state)
{
    (void)state;
    char dir[128];
    cn_dataset_report r;
    cn_annotate_args args;
    bool told = false;
    snprintf(dir, sizeof dir, "%s/scenes", root);
    must(tiny_scenes_write(ctx, dir, 6));
    must(cn_dataset_check(ctx, &(cn_dataset_options){.dir = dir}, NULL, &r));
    assert_string_equal(r.layout, "fill50k");
    assert_true(r.pairs == 6 && r.looked_at == 6 && r.problems == 0);
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) assert_int_equal(r.findings[k].count, 0);
    assert_true(r.min_width == TINY_PX && r.max_height == TINY_PX);
    must(cn_condition_find(ctx, &(cn_train_options){.train_data_dir = dir}, &args, &told));
    assert_true(told);
    assert_string_equal(args.kind->name, "canny");
    assert_true(args.values[0] == 100 && args.values[1] == 200);
}

/* Sets every pixel of a picture; black and white stripes where `stripes` of 8 columns are white. */
static void paint(const char *dir, const char *name, int stripes, int r, int g, int b)
{
    char path[256];
    cn_image *image = NULL;
    must(cn_image_create(ctx, 8, 8, &image));
    for (int i = 0; i < 64; i++) {
        const bool white = i % 8 < stripes;
        image->rgb[3 * i] = (uint8_t)(stripes ? 255 * white : r);
        image->rgb[3 * i + 1] = (uint8_t)(stripes ? 255 * white : g);
        image->rgb[3 * i + 2] = (uint8_t)(stripes ? 255 * white : b);
    }
    image->rgb[0] ^= 1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    must(cn_image_save_png(ctx, path, image, NULL));
    cn_image_destroy(image);
}

static int64_t found(const cn_dataset_report *r, const char *name, const char *first)
{
    for (int k = 0; k < CN_DATASET_FINDINGS; k++) {
        if (strcmp(r->findings[k].name, name) != 0) continue;
        if (r->findings[k].count && !strstr(r->findings[k].first, first))
            fail_msg("%s: %s (wanted %s)", name, r->findings[k].first, first);
        return r->findings[k].count;
    }
    fail_msg("no finding %s", name);
    return -1;
}

static void what_is_suspicious_is_found(void **state)
{
    (void)state;
    cn_str list = {0}, words = {0};
    cn_dataset_report r;
    char path[256];
    const char *dir = folder("lint", "other.txt", "", 16, 8);
    put(dir, "blank.png", "");
    cn_image *blank = NULL;
    must(cn_image_create(ctx, 8, 8, &blank));
    snprintf(path, sizeof path, "%s/blank.png", dir);
    must(cn_image_save_png(ctx, path, blank, NULL));
    cn_image_destroy(blank);
    paint(dir, "inverted.png", 7, 0, 0, 0);
    paint(dir, "lines.png", 1, 0, 0, 0);
    paint(dir, "normal.png", 0, 255, 127, 128); /* z in red */
    paint(dir, "red.png", 0, 200, 20, 30);
    paint(dir, "blue.png", 0, 20, 20, 200);
    for (int i = 0; i < 80; i++) cn_str_adds(&words, "word ");
    static const char *const pairs[][3] = {{"blank.png", "a.png", "ok"},
                                           {"inverted.png", "b.png", "ok"},
                                           {"lines.png", "lines.png", "ok"},
                                           {"normal.png", "a.png", ""}};
    for (size_t i = 0; i < CN_COUNT(pairs); i++)
        cn_str_addf(&list, "{\"source\": \"%s\", \"target\": \"%s\", \"prompt\": \"%s\"}\n",
                    pairs[i][0], pairs[i][1], pairs[i][2]);
    for (int i = 0; i < 16; i++) /* the names of the colours are exchanged */
        cn_str_addf(
            &list,
            "{\"source\": \"lines.png\", \"target\": \"%s.png\", \"prompt\": \"a %s ball\"}\n",
            i % 2 ? "red" : "blue", i % 2 ? "Blue" : "red");
    cn_str_addf(&list, "{\"source\": \"lines.png\", \"target\": \"b.png\", \"prompt\": \"%s\"}\n",
                words.data);
    put(dir, "prompt.json", list.data);
    must(cn_dataset_check(ctx, &(cn_dataset_options){.dir = dir},
                          &(cn_dataset_check_options){.resolution = 9}, &r));
    assert_true(r.pairs == 21 && r.looked_at == 21 && r.distinct_prompts == 5);
    assert_int_equal(found(&r, "blank_conditions", "prompt.json:1"), 1);
    assert_int_equal(found(&r, "inverted_conditions", "prompt.json:2"), 1);
    assert_int_equal(found(&r, "conditions_equal_to_picture", "prompt.json:3"), 1);
    assert_int_equal(found(&r, "suspected_channel_order_of_conditions", "prompt.json:4"), 1);
    assert_int_equal(found(&r, "suspected_channel_order_of_pictures", "prompt.json:5"), 16);
    assert_int_equal(found(&r, "duplicate_pictures", "prompt.json:4"), 16);
    assert_int_equal(found(&r, "other_proportions", "prompt.json:1"), 2);
    assert_int_equal(found(&r, "empty_prompts", "prompt.json:4"), 1);
    assert_int_equal(found(&r, "long_prompts", "prompt.json:21"), 1);
    assert_int_equal(found(&r, "smaller_than_resolution", "prompt.json:1"), 21);
    must(cn_dataset_check(ctx, &(cn_dataset_options){.dir = dir},
                          &(cn_dataset_check_options){.max_pairs = 7}, &r));
    assert_true(r.pairs == 21 && r.looked_at == 7);
    cn_str_free(&list);
    cn_str_free(&words);
}

static void conditions_know_their_annotator(void **state)
{
    (void)state;
    cn_annotate_args args;
    const uint8_t bw[] = {0, 0, 0, 255, 255, 255}, colour[] = {0, 0, 0, 255, 0, 255};
    bool told = true;
    assert_true(cn_condition_black_and_white(bw, 2));
    assert_false(cn_condition_black_and_white(bw, 1));
    assert_false(cn_condition_black_and_white(colour, 2));
    cn_train_options o = {.train_data_dir = root, .validation_annotator = "canny low=50 high=60"};
    must(cn_condition_find(ctx, &o, &args, &told));
    assert_true(told && args.values[0] == 50 && args.values[1] == 60);
    o.validation_annotator = "none";
    must(cn_condition_find(ctx, &o, &args, &told));
    assert_true(told && !args.kind);
    o.validation_annotator = NULL;
    must(cn_condition_find(ctx, &o, &args, &told));
    assert_true(!told && !args.kind); /* a look at the conditions decides */
    o.validation_annotator = "cubist";
    refused(cn_condition_find(ctx, &o, &args, &told), CN_EINVAL, "cubist");
    o.validation_annotator = "canny low=x";
    refused(cn_condition_find(ctx, &o, &args, &told), CN_EINVAL, "low");
}

static void records_come_back(void **state)
{
    (void)state;
    for (size_t limit = 0; limit <= 1000; limit += 1000) { /* in a file, in memory */
        cn_store *s = NULL;
        char record[10], got[10];
        must(cn_store_create(ctx, 5, sizeof record, limit, root, &s));
        for (int i = 4; i >= 0; i--) {
            memset(record, 'a' + i, sizeof record);
            must(cn_store_write(s, i, record));
        }
        for (int i = 0; i < 5; i++) {
            memset(record, 'a' + i, sizeof record);
            must(cn_store_read(s, ctx, i, got));
            assert_memory_equal(record, got, sizeof got);
        }
        cn_store_destroy(s);
    }
    cn_store *s = NULL;
    refused(cn_store_create(ctx, 5, 10, 0, "/nonexistent", &s), CN_EIO, "/nonexistent");
    refused(cn_store_create(ctx, INT64_MAX, 1 << 20, 0, root, &s), CN_ENOMEM, "too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(a_json_list_is_read),
        cmocka_unit_test(bad_json_lists_are_named),
        cmocka_unit_test(csv_is_read),
        cmocka_unit_test(twin_folders_are_read),
        cmocka_unit_test(shards_are_read),
        cmocka_unit_test(bad_shards_are_named),
        cmocka_unit_test(every_hole_is_named),
        cmocka_unit_test(a_damaged_picture_is_named),
        cmocka_unit_test(scenes_pass_the_check),
        cmocka_unit_test(what_is_suspicious_is_found),
        cmocka_unit_test(conditions_know_their_annotator),
        cmocka_unit_test(records_come_back),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
