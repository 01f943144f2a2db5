/* SPDX-License-Identifier: Apache-2.0 */
/* test_dataset_found.c - training pairs as people have them: Windows' paths, folders with repeats,
 * packed data; and what an error says of what was found instead. */
#include "../support/unit/unit.h"
#include "../support/unit/unit_pairs.h"
#include "data/dataset.h"

#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

static void refuse_both(const cn_dataset_options *o, const char *says, const char *also)
{
    cn_dataset *d = NULL;
    assert_int_not_equal(cn_dataset_open(ctx, o, &d), CN_OK);
    if (!strstr(cn_error(ctx), says) || !strstr(cn_error(ctx), also))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", cn_error(ctx), says, also);
}

/* root/NAME/FILE, 8 x 8 px with this first byte. */
static void put_picture(const char *name, const char *file, int value)
{
    char path[256];
    cn_image *image = NULL;
    snprintf(path, sizeof path, "%s/%s", root, name);
    must(cn_dir_make(ctx, path));
    snprintf(path, sizeof path, "%s/%s/%s", root, name, file);
    must(cn_image_create(ctx, 8, 8, &image));
    image->rgb[0] = (uint8_t)value;
    must(cn_image_save_png(ctx, path, image, NULL));
    cn_image_destroy(image);
}

/* A folder root/NAME with a list, a.png and b.png. */
static const char *folder(const char *name, const char *list, const char *text)
{
    static char dir[128];
    char path[256];
    put_picture(name, "a.png", 100);
    put_picture(name, "b.png", 200);
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    snprintf(path, sizeof path, "%s/%s", dir, list);
    must(cn_file_write(ctx, path, text, strlen(text)));
    return dir;
}

static void backslashes_are_folders_where_nothing_else_is(void **state)
{
    (void)state;
    cn_dataset *d = NULL;
    char path[256];
    const char *dir =
        folder("windows", "prompt.json",
               "{\"source\": \"in\\\\a.png\", \"target\": \"b.png\", \"prompt\": \"x\"}\n");
    snprintf(path, sizeof path, "%s/in", dir);
    must(cn_dir_make(ctx, path));
    cn_image *image = NULL;
    must(cn_image_create(ctx, 8, 8, &image));
    image->rgb[0] = 77;
    snprintf(path, sizeof path, "%s/in/a.png", dir);
    must(cn_image_save_png(ctx, path, image, NULL));
    must(open_at(dir, &d));
    expect_pictures(d, 0, 77, 200);
    cn_dataset_close(d);
    d = NULL;
    /* a file whose name has one */
    image->rgb[0] = 99;
    snprintf(path, sizeof path, "%s/in\\a.png", dir);
    must(cn_image_save_png(ctx, path, image, NULL));
    cn_image_destroy(image);
    must(open_at(dir, &d));
    expect_pictures(d, 0, 99, 200);
    cn_dataset_close(d);
}

static void faults_say_what_was_found(void **state)
{
    (void)state;
    char path[256];
    const char *dir = folder("near", "prompt.json",
                             "{\"source\": \"A.jpg\", \"target\": \"b.png\", \"prompt\": \"\"}\n");
    refuse_both(&(cn_dataset_options){.dir = dir}, "A.jpg is missing", "there is a file a.png");
    dir = folder("gone", "prompt.json",
                 "{\"source\": \"C:\\\\x\\\\a.png\", \"target\": \"b.png\", \"prompt\": \"\"}\n");
    refuse_both(&(cn_dataset_options){.dir = dir}, "C:\\x\\a.png is missing", "(");
    dir = folder("names", "metadata.jsonl",
                 "{\"file_name\": \"a.png\", \"guide\": \"b.png\", \"caption\": \"x\"}\n");
    refuse_both(&(cn_dataset_options){.dir = dir}, "it has file_name, guide, caption",
                "--conditioning-image-column");
    refuse_both(&(cn_dataset_options){.dir = dir, .conditioning_image_column = "guide"},
                "\"text\" is missing", "--caption-column");
    static const struct {
        const char *name, *says;
    } packed[] = {
        {"0.parquet", "tools/from-parquet.py"}, {"x.zip", "unpack"}, {"y.arrow", "to_parquet"}};
    for (size_t i = 0; i < CN_COUNT(packed); i++) {
        snprintf(path, sizeof path, "%s/packed%zu", root, i);
        must(cn_dir_make(ctx, path));
        snprintf(path, sizeof path, "%s/packed%zu/%s", root, i, packed[i].name);
        must(cn_file_write(ctx, path, "PAR1", 4));
        refuse_both(&(cn_dataset_options){.dir = path}, packed[i].says, "1 file");
        *strrchr(path, '/') = 0;
        refuse_both(&(cn_dataset_options){.dir = path}, packed[i].says, "1 file");
    }
}

/* 20 and 30 have ten in common: twice and three times. */
static void folders_with_repeats_are_read(void **state)
{
    (void)state;
    char dir[128], conditions[128];
    cn_dataset *d = NULL;
    put_picture("kohya", "note.png", 1); /* beside the folders: not a picture of any */
    put_picture("kohya/20_dog", "a.png", 10);
    put_picture("kohya/30_a cat", "b.png", 20);
    put_picture("kohya/30_a cat", "c.png", 30);
    put_picture("kohya/other", "d.png", 40);
    put_picture("hints", "b.png", 120);
    put_picture("hints", "c.png", 130);
    put_picture("hints/20_dog", "a.png", 110);
    snprintf(dir, sizeof dir, "%s/kohya", root);
    snprintf(conditions, sizeof conditions, "%s/hints", root);
    must(cn_dataset_open(ctx, &(cn_dataset_options){.dir = dir, .conditioning_dir = conditions},
                         &d));
    assert_int_equal(d->n, 2 + 3 + 3);
    assert_non_null(strstr(d->found, "2 folders with repeats"));
    static const int want[8] = {10, 10, 20, 20, 20, 30, 30, 30};
    for (int i = 0; i < 8; i++) expect_pictures(d, i, want[i] + 100, want[i]);
    cn_dataset_close(d);
    put_picture("kohya/30_a cat", "e.png", 50);
    refuse_both(&(cn_dataset_options){.dir = dir, .conditioning_dir = conditions}, "30_a cat/e.png",
                "no condition of this stem in");
}

/* What lies beside a picture without its partner. */
static void another_spelling_is_named(void **state)
{
    (void)state;
    char dir[128], conditions[128], path[192];
    put_picture("spelt", "x.png", 1);
    put_picture("spelt-hints", "y.png", 1);
    snprintf(dir, sizeof dir, "%s/spelt", root);
    snprintf(conditions, sizeof conditions, "%s/spelt-hints", root);
    snprintf(path, sizeof path, "%s/x.heic", conditions);
    must(cn_file_write(ctx, path, "x", 1));
    refuse_both(&(cn_dataset_options){.dir = dir, .conditioning_dir = conditions},
                "x.png: no condition of this stem", "it holds x.heic");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backslashes_are_folders_where_nothing_else_is),
        cmocka_unit_test(faults_say_what_was_found),
        cmocka_unit_test(folders_with_repeats_are_read),
        cmocka_unit_test(another_spelling_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
