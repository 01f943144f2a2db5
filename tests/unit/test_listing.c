/* SPDX-License-Identifier: Apache-2.0 */
/* test_listing.c - pictures of folders within folders, and links among them. */
#include "../support/unit/unit.h"
#include "io/listing.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

static void make(const char *name)
{
    char path[256];
    path_in(path, name);
    must(cn_file_write(ctx, path, "x", 1));
}

static void make_folder(const char *name)
{
    char path[256];
    path_in(path, name);
    must(cn_dir_make(ctx, path));
}

static void link_to(const char *target, const char *name)
{
    char path[256];
    path_in(path, name);
    assert_int_equal(symlink(target, path), 0);
}

static void expect(const char *folder, const char *const *names, int64_t n)
{
    char path[256];
    cn_listing l = {0};
    const cn_listing_rules rules = {.endings = cn_picture_endings, .recursive = true};
    path_in(path, folder);
    must(cn_listing_read(ctx, path, &rules, &l));
    assert_int_equal(l.n, n);
    for (int64_t i = 0; i < n; i++) assert_string_equal(l.names[i], names[i]);
    cn_listing_free(&l);
}

static void folders_in_folders(void **state)
{
    (void)state;
    static const char *const names[] = {"a.png", "b.JPG", "in/c.webp", "in/in/d.png"};
    make_folder("plain/in/in");
    make_folder("plain/.hidden");
    make("plain/b.JPG");
    make("plain/a.png");
    make("plain/a.txt");
    make("plain/in/c.webp");
    make("plain/in/in/d.png");
    make("plain/.hidden/e.png");
    expect("plain", names, 4);
}

/* Two links to a folder above would double the walk at each of 32 levels. */
static void links_in_circles_end(void **state)
{
    (void)state;
    static const char *const names[] = {"in/a.png"};
    make_folder("circle/in");
    make("circle/in/a.png");
    link_to("..", "circle/in/up");
    link_to("../in", "circle/in/self");
    link_to("in", "circle/again");
    expect("circle", names, 1);
}

static void links_elsewhere_are_followed(void **state)
{
    (void)state;
    static const char *const names[] = {"a.png", "there/b.png"};
    make_folder("linked");
    make_folder("elsewhere");
    make("linked/a.png");
    make("elsewhere/b.png");
    link_to("../elsewhere", "linked/there");
    link_to("../elsewhere", "linked/zthere_again");
    link_to("nowhere", "linked/dangling");
    expect("linked", names, 2);
}

static void a_missing_folder_is_an_error(void **state)
{
    (void)state;
    char path[256];
    cn_listing l = {0};
    const cn_listing_rules rules = {.endings = cn_picture_endings};
    path_in(path, "missing");
    refused(cn_listing_read(ctx, path, &rules, &l), CN_EIO, "missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_in_folders),
        cmocka_unit_test(links_in_circles_end),
        cmocka_unit_test(links_elsewhere_are_followed),
        cmocka_unit_test(a_missing_folder_is_an_error),
    };
    return cmocka_run_group_tests_name("listing", tests, set_up, unit_close);
}
