/* SPDX-License-Identifier: Apache-2.0 */
/* JSON files and JSON lines: values, defaults, and errors that name the line. */
#include "io/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/cn-json-XXXXXX";
static char path[64];
static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    if (!ctx || !mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/x.json", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    unlink(path);
    return rmdir(folder);
}

static void put(const char *text, size_t n)
{
    assert_int_equal(cn_file_write(ctx, path, text, n), CN_OK);
}

static void expect_error(cn_status s, cn_status status, const char *message)
{
    assert_int_equal(s, status);
    if (!strstr(cn_error(ctx), message)) fail_msg("'%s': expected '%s'", cn_error(ctx), message);
}

static void values_and_defaults(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf{\"i\": 3, \"f\": 0.5, \"s\": \"x\", \"b\": true, \"n\": null}\n";
    json_t *o = NULL;
    put(text, sizeof text - 1);
    assert_int_equal(cn_json_load_file(ctx, path, &o), CN_OK);
    assert_int_equal(cn_json_int(o, "i", 7), 3);
    assert_int_equal(cn_json_int(o, "f", 7), 7);
    assert_float_equal(cn_json_number(o, "f", 7), 0.5, 0);
    assert_float_equal(cn_json_number(o, "i", 7), 3, 0);
    assert_float_equal(cn_json_number(o, "n", 7), 7, 0);
    assert_string_equal(cn_json_str(o, "s", "y"), "x");
    assert_string_equal(cn_json_str(o, "i", "y"), "y");
    assert_true(cn_json_bool(o, "b", false));
    assert_true(cn_json_bool(o, "absent", true));
    int64_t i = 0;
    double f = 0;
    const char *s = NULL;
    assert_int_equal(cn_json_need_int(ctx, o, "i", &i), CN_OK);
    assert_int_equal(cn_json_need_number(ctx, o, "i", &f), CN_OK);
    assert_int_equal(cn_json_need_str(ctx, o, "s", &s), CN_OK);
    expect_error(cn_json_need_int(ctx, o, "s", &i), CN_EFORMAT, "\"s\" must be an integer");
    expect_error(cn_json_need_number(ctx, o, "b", &f), CN_EFORMAT, "\"b\" must be a number");
    expect_error(cn_json_need_str(ctx, o, "absent", &s), CN_EFORMAT, "\"absent\" is missing");
    assert_int_equal(i, 3);
    json_decref(o);
}

static void errors_name_the_line(void **state)
{
    (void)state;
    json_t *o = NULL;
    put("{\n\"a\": 1,\n\"b\": }\n", 16);
    expect_error(cn_json_load_file(ctx, path, &o), CN_EFORMAT, "x.json:3: not valid JSON");
    put("{\"a\": 1, \"a\": 2}", 16);
    expect_error(cn_json_load_file(ctx, path, &o), CN_EFORMAT, "duplicate");
    put("", 0);
    expect_error(cn_json_load_file(ctx, path, &o), CN_EFORMAT, "x.json:1:");
    char deep[5000];
    memset(deep, '[', sizeof deep);
    expect_error(cn_json_load_memory(ctx, "request", deep, sizeof deep, &o), CN_EFORMAT,
                 "request:1");
    expect_error(cn_json_load_file(ctx, "/nonexistent/x.json", &o), CN_EIO, "/nonexistent/x.json");
    assert_null(o);
}

static void saved_values_read_back(void **state)
{
    (void)state;
    json_t *o = json_pack("{s:i, s:[s, n], s:f}", "z", 1, "a", "\xc3\xa9", "f", 0.1), *back = NULL;
    assert_int_equal(cn_json_save_file(ctx, path, o), CN_OK);
    assert_int_equal(cn_json_load_file(ctx, path, &back), CN_OK);
    assert_true(json_equal(o, back));
    json_decref(o);
    json_decref(back);
}

static void lines_one_by_one(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbf{\"a\":1}\r\n\n  \t\n{\"a\":2}\n{bad\n[3]\n{\"a\":4}";
    cn_jsonl *j = NULL;
    json_t *o = NULL;
    put(text, sizeof text - 1);
    assert_int_equal(cn_jsonl_open(ctx, path, &j), CN_OK);
    assert_int_equal(cn_jsonl_next(ctx, j, &o), CN_OK);
    assert_int_equal(cn_json_int(o, "a", 0), 1);
    json_decref(o);
    assert_int_equal(cn_jsonl_next(ctx, j, &o), CN_OK);
    assert_int_equal(cn_json_int(o, "a", 0), 2);
    assert_int_equal(cn_jsonl_line(j), 4);
    json_decref(o);
    expect_error(cn_jsonl_next(ctx, j, &o), CN_EFORMAT, "x.json:5: not valid JSON");
    expect_error(cn_jsonl_next(ctx, j, &o), CN_EFORMAT,
                 "x.json:6: the line must be one JSON object");
    assert_int_equal(cn_jsonl_next(ctx, j, &o), CN_OK);
    assert_int_equal(cn_json_int(o, "a", 0), 4);
    json_decref(o);
    assert_int_equal(cn_jsonl_next(ctx, j, &o), CN_OK);
    assert_null(o);
    cn_jsonl_close(j);
    expect_error(cn_jsonl_open(ctx, "/nonexistent/x", &j), CN_EIO, "/nonexistent/x");
    expect_error(cn_jsonl_open(ctx, folder, &j), CN_EIO, folder);
}

static void long_lines(void **state)
{
    (void)state;
    size_t n = 17u << 20;
    char *text = test_malloc(n + 32);
    memset(text, 'x', n);
    snprintf(text + n, 32, "\n{\"a\":5}\n");
    put(text, strlen(text));
    test_free(text);
    cn_jsonl *j = NULL;
    json_t *o = NULL;
    assert_int_equal(cn_jsonl_open(ctx, path, &j), CN_OK);
    expect_error(cn_jsonl_next(ctx, j, &o), CN_EFORMAT, "x.json:1: a line of more than 16 MB");
    assert_int_equal(cn_jsonl_next(ctx, j, &o), CN_OK);
    assert_int_equal(cn_json_int(o, "a", 0), 5);
    json_decref(o);
    cn_jsonl_close(j);
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF, nothing cut short. jansson
 * agrees. */
static void text_is_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "a\xff",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xe2\x82",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xc3("};
    for (size_t i = 0; i < CN_COUNT(good) + CN_COUNT(bad); i++) {
        const bool want = i < CN_COUNT(good);
        const char *text = want ? good[i] : bad[i - CN_COUNT(good)];
        json_t *string = json_string(text);
        assert_int_equal(string != NULL, want);
        assert_int_equal(cn_json_is_text(text), want);
        json_decref(string);
    }
}

/* Of jansson's own memory, how often it is still given. */
static long allowed;

static void *take_some(size_t n)
{
    return allowed-- > 0 ? malloc(n) : NULL;
}

/* jansson's json_dumps leaves a key out where memory lacks for it. */
static void text_is_whole_or_absent(void **state)
{
    (void)state;
    json_t *value = json_pack("{s:s, s:[i, i], s:{s:s}}", "source", "a.png", "sizes", 1, 2, "more",
                              "prompt", "a house with a very long description");
    json_malloc_t take = NULL;
    json_free_t give = NULL;
    json_get_alloc_funcs(&take, &give);
    char *want = cn_json_text(value, JSON_COMPACT);
    assert_string_equal(want, "{\"source\":\"a.png\",\"sizes\":[1,2],\"more\":{\"prompt\":"
                              "\"a house with a very long description\"}}");
    bool whole = false;
    for (long n = 0; !whole && n < 100; n++) {
        allowed = n;
        json_set_alloc_funcs(take_some, free);
        char *text = cn_json_text(value, JSON_COMPACT);
        json_set_alloc_funcs(take, give);
        whole = text && allowed >= 0;
        if (text) assert_string_equal(text, want);
        cn_free(text);
    }
    assert_true(whole);
    assert_null(cn_json_text(NULL, 0));
    cn_free(want);
    json_decref(value);
}

/* json_copy leaves a key out where memory lacks for it. */
static void copies_are_whole_or_absent(void **state)
{
    (void)state;
    json_t *object = json_pack("{s:i, s:s, s:[i], s:b, s:n, s:i, s:i, s:i, s:i, s:i}", "a", 1, "b",
                               "text", "c", 2, "d", 1, "e", "f", 3, "g", 4, "h", 5, "i", 6, "j", 7);
    json_malloc_t take = NULL;
    json_free_t give = NULL;
    json_get_alloc_funcs(&take, &give);
    bool whole = false;
    int absent = 0;
    for (long n = 0; !whole && n < 100; n++) {
        allowed = n;
        json_set_alloc_funcs(take_some, free);
        json_t *copy = cn_json_copy(object);
        json_set_alloc_funcs(take, give);
        whole = copy && allowed >= 0;
        absent += !copy;
        if (copy) assert_true(json_equal(copy, object));
        json_decref(copy);
    }
    assert_true(whole && absent > 2);
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_defaults),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(saved_values_read_back),
        cmocka_unit_test(lines_one_by_one),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(text_is_utf8),
        cmocka_unit_test(text_is_whole_or_absent),
        cmocka_unit_test(copies_are_whole_or_absent),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
