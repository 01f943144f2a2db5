/* SPDX-License-Identifier: Apache-2.0 */
/* test_terminal.c - what comes from files doesn't reach the terminal as it is: escape sequences and
 * line ends in names, lists, weights and texts of pictures show as \xHH, in every command's
 * messages; --json is exact. Calls that wait end with a signal. Runs the program itself. */
#include "../support/child.h"
#include "../support/unit/tiny_run.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RUN_SECONDS = 60, SAID_BYTES = 65536 };
#define EVIL                                  \
    "\x1b]0;mine\x07\nforged: line\r\xc2\x9b" \
    "31m\xe2\x80\xae"                         \
    "\xff"
#define SHOWN                                           \
    "\\x1b]0;mine\\x07\\x0aforged: line\\x0d\\xc2\\x9b" \
    "31m\\xe2\\x80\\xae"                                \
    "\\xff"

static char program[PATH_MAX], said[SAID_BYTES];

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1) == 0 && test_find_controlnet(NULL, program) ? 0 : -1;
}

static int run(char *const *args)
{
    char *argv[16] = {program};
    int ends[2];
    for (int i = 0; args[i] && i < 14; i++) argv[i + 1] = args[i];
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = test_start(argv, ends[1]);
    close(ends[1]);
    const int status = test_read(pid, ends[0], RUN_SECONDS, said, sizeof said);
    close(ends[0]);
    return status;
}

/* Nothing but text and line ends; no line that begins as the forged one does. */
static void expect_plain(void)
{
    for (const unsigned char *p = (const unsigned char *)said; *p; p++)
        if ((*p < 0x20 && *p != '\n') || *p == 0x7f || *p == 0xff || *p == 0x9b)
            fail_msg("byte %02x in: %s", *p, said);
    assert_null(strstr(said, "\nforged"));
    assert_null(strstr(said, "\xe2\x80\xae"));
}

static void put(const char *name, const char *bytes, size_t n)
{
    char path[256];
    path_in(path, name);
    must(cn_file_write(ctx, path, bytes, n));
}

static void names_and_lists(void **state)
{
    (void)state;
    char photos[256], out[256], list[256], csv[256], png[400];
    path_in(photos, "photos");
    path_in(out, "out");
    must(cn_dir_make(ctx, photos));
    snprintf(png, sizeof png, "photos/%s.png", EVIL);
    put(png, "no picture", 10);
    assert_int_equal(run((char *[]){"annotate", "canny", photos, "-o", out, NULL}), 1);
    expect_plain();
    assert_non_null(strstr(said, SHOWN ".png"));

    path_in(list, "list");
    must(cn_dir_make(ctx, list));
    json_t *line = json_pack("{s:s,s:s,s:s}", "source", "a\x1b[31m.png", "target",
                             "b\nforged: x.png", "prompt", "p");
    char *text = json_dumps(line, 0);
    put("list/prompt.json", text, strlen(text));
    free(text);
    json_decref(line);
    assert_int_not_equal(run((char *[]){"dataset", "check", list, NULL}), 0);
    expect_plain();

    path_in(csv, "csv");
    must(cn_dir_make(ctx, csv));
    static const char rows[] = "file_name,conditioning_image,text\n\"" EVIL "\",x.png,t\n";
    put("csv/metadata.csv", rows, sizeof rows - 1);
    assert_int_not_equal(run((char *[]){"dataset", "check", csv, NULL}), 0);
    expect_plain();
}

static int lines_said(void)
{
    int n = 0;
    for (const char *c = said; *c; c++) n += *c == '\n';
    return n;
}

/* Five lines that can't be used: one named and the others counted, or each. */
static void many_faults_are_few_lines(void **state)
{
    (void)state;
    char dir[256];
    path_in(dir, "faults");
    must(cn_dir_make(ctx, dir));
    put("faults/prompt.json", "a\nb\nc\nd\ne\n", 10);
    assert_int_equal(run((char *[]){"dataset", "check", dir, NULL}), 1);
    assert_int_equal(lines_said(), 3);
    assert_non_null(strstr(said, "prompt.json:1: "));
    assert_non_null(strstr(said, "\n4 more can't be used"));
    assert_int_equal(run((char *[]){"dataset", "stats", dir, NULL}), 1);
    assert_int_equal(lines_said(), 3);
    assert_int_equal(run((char *[]){"dataset", "check", dir, "--all-problems", NULL}), 1);
    assert_int_equal(lines_said(), 6);
    assert_non_null(strstr(said, "prompt.json:5: "));
}

/* A safetensors file of one tensor under a given name. */
static void put_tensor(const char *file, const char *name)
{
    json_t *header = json_object();
    cn_str bytes = {0};
    json_object_set_new(
        header, name,
        json_pack("{s:s,s:[i],s:[i,i]}", "dtype", "F32", "shape", 3, "data_offsets", 0, 8));
    char *text = json_dumps(header, 0);
    const uint64_t n = strlen(text);
    cn_str_add(&bytes, (const char *)&n, 8);
    cn_str_adds(&bytes, text);
    cn_str_add(&bytes, "\0\0\0\0\0\0\0\0", 8);
    put(file, bytes.data, bytes.len);
    free(text);
    json_decref(header);
    cn_str_free(&bytes);
}

static void weights_and_arrays(void **state)
{
    (void)state;
    char file[256], npy[256], png[256];
    path_in(file, "w.safetensors");
    put_tensor("w.safetensors", "a\x1b[2J\nforged: x");
    assert_int_not_equal(run((char *[]){"inspect", file, NULL}), 0);
    expect_plain();
    assert_non_null(strstr(said, "\\x1b[2J\\x0aforged"));
    path_in(npy, "a_normal.npy");
    path_in(png, "a.png");
    static const char array[] = "\x93NUMPY\1\0\x46\0{'descr': '\x1b[31m', 'fortran_order': False, "
                                "'shape': (2, 2)}               \n";
    put("a_normal.npy", array, sizeof array - 1);
    assert_int_not_equal(run((char *[]){"annotate", "normal_diode", npy, "-o", png, NULL}), 0);
    expect_plain();
}

static void parameters_of_a_picture(void **state)
{
    (void)state;
    char png[256], out[256];
    cn_image *image = NULL;
    const char *const texts[] = {"controlnet.c", "{\"what\x1b[31m\": \"\nforged\"", NULL};
    path_in(png, "p.png");
    path_in(out, "drawn.png");
    must(cn_image_create(ctx, 8, 8, &image));
    must(cn_image_save_png(ctx, png, image, texts));
    cn_image_destroy(image);
    assert_int_not_equal(run((char *[]){"generate", "--from", png, "-o", out, "--dry-run", NULL}),
                         0);
    expect_plain();
}

static void words_of_the_command_line(void **state)
{
    (void)state;
    assert_int_equal(run((char *[]){EVIL, NULL}), 2);
    expect_plain();
    assert_int_equal(run((char *[]){"generate", "--" EVIL, NULL}), 2);
    expect_plain();
    assert_int_equal(run((char *[]){"dataset", EVIL, NULL}), 2);
    expect_plain();
}

/* --json says names as they are, as JSON has it. */
static void json_is_exact(void **state)
{
    (void)state;
    char file[256];
    json_error_t error;
    path_in(file, "c\x1b[31m\n.safetensors");
    put_tensor("c\x1b[31m\n.safetensors", "model.diffusion_model.input_blocks.0.0.weight");
    const int status = run((char *[]){"inspect", "--json", file, NULL});
    if (status != 0) return expect_plain();
    json_t *o = json_loads(said, 0, &error);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "path")), file);
    json_decref(o);
}

/* A list of pairs that is a pipe, and a pipe to write into that nobody reads: both end. */
static void nothing_waits_for_ever(void **state)
{
    (void)state;
    char dir[256], pipe_path[256], picture[256];
    path_in(dir, "piped");
    path_in(pipe_path, "piped/prompt.json");
    path_in(picture, "scenes/target/0.png");
    must(cn_dir_make(ctx, dir));
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_not_equal(run((char *[]){"dataset", "check", dir, NULL}), 0);
    assert_non_null(strstr(said, "it is a pipe"));

    char *const argv[] = {program, "annotate", "canny", picture, "-o", pipe_path, NULL};
    const pid_t pid = test_start(argv, -1);
    nanosleep(&(struct timespec){.tv_nsec = 700000000}, NULL);
    kill(pid, SIGTERM);
    assert_int_equal(test_wait(pid, 10), 1);
}

/* -o -: the same bytes as of a file, and nothing else. */
static void standard_output_gets_the_picture(void **state)
{
    (void)state;
    char picture[256], out[256], *bytes = NULL;
    size_t n = 0;
    path_in(picture, "scenes/target/0.png");
    path_in(out, "edges.png");
    assert_int_equal(run((char *[]){"annotate", "canny", picture, "-o", out, NULL}), 0);
    must(cn_file_read(ctx, out, sizeof said - 1, &bytes, &n));
    memset(said, 0, sizeof said);
    assert_int_equal(run((char *[]){"annotate", "canny", picture, "-o", "-", NULL}), 0);
    assert_memory_equal(said, bytes, n);
    assert_int_equal(said[n], 0);
    assert_int_not_equal(
        run((char *[]){"generate", "-m", model, "-p", "x", "-o", "-", "--json", NULL}), 0);
    assert_non_null(strstr(said, "-o - writes one picture"));
    cn_free(bytes);
}

/* The tiny model's heads and groups follow from no shape: one line says who reads them. */
static void convert_tells_what_others_cannot_read(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "single.safetensors");
    assert_int_equal(run((char *[]){"convert", model, out, NULL}), 0);
    assert_non_null(strstr(said, "other heads or groups than follow from its shapes"));
    path_in(out, "folder");
    assert_int_equal(run((char *[]){"convert", model, out, NULL}), 0);
    assert_null(strstr(said, "heads"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_lists),
        cmocka_unit_test(many_faults_are_few_lines),
        cmocka_unit_test(weights_and_arrays),
        cmocka_unit_test(parameters_of_a_picture),
        cmocka_unit_test(words_of_the_command_line),
        cmocka_unit_test(json_is_exact),
        cmocka_unit_test(nothing_waits_for_ever),
        cmocka_unit_test(standard_output_gets_the_picture),
        cmocka_unit_test(convert_tells_what_others_cannot_read),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
