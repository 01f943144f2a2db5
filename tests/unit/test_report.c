/* SPDX-License-Identifier: Apache-2.0 */
/* test_report.c - the page is one well-formed file of its own; curves from small and damaged
 * metrics. */
#include "../support/unit/unit.h"
#include "eval/report.h"
#include "image/image.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char page[128], metrics[128];
static char last_warning[512];
static int n_warnings;

static void keep_warning(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level != CN_LOG_WARN) return;
    n_warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", line);
}

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0) return -1;
    cn_ctx_set_log(ctx, keep_warning, NULL);
    snprintf(page, sizeof page, "%s/report.html", root);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", root);
    return 0;
}

static void read_page(char **text)
{
    size_t n = 0;
    must(cn_file_read(ctx, page, 1 << 26, text, &n));
    assert_int_equal(strlen(*text), n);
}

static void write_metrics(const char *text)
{
    must(cn_file_write(ctx, metrics, text, strlen(text)));
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
    return n;
}

/* --- a small checker of structure: tags nest, attributes are quoted --------------------------- */

/* From '<' to behind '>'; the name goes to `name`. Fails on an attribute without quotes. */
static const char *read_tag(const char *p, char name[32], bool *closes, bool *is_empty)
{
    size_t n = 0;
    p++;
    *closes = *p == '/';
    p += *closes;
    while (isalnum((unsigned char)*p)) {
        if (n < 31) name[n++] = *p;
        p++;
    }
    name[n] = 0;
    assert_true(n > 0);
    *is_empty = false;
    for (; *p && *p != '>'; p++) {
        assert_true(*p != '<');
        if (*p == '=') {
            assert_true(p[1] == '"');
            p = strchr(p + 2, '"');
            assert_non_null(p);
        }
        *is_empty = *p == '/';
    }
    assert_true(*p == '>');
    return p + 1;
}

static void check_well_formed(const char *p)
{
    char stack[32][32];
    int depth = 0;
    assert_int_equal(strncmp(p, "<!DOCTYPE html>", 15), 0);
    p += 15;
    while (*p) {
        if (*p == '&') {
            const char *end = strchr(p, ';');
            assert_true(end && end - p <= 6);
            p = end;
        }
        if (*p != '<') {
            p++;
            continue;
        }
        char name[32];
        bool closes, is_empty;
        p = read_tag(p, name, &closes, &is_empty);
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(stack[--depth], name);
        } else if (!is_empty) {
            assert_true(depth < 32);
            memcpy(stack[depth++], name, sizeof stack[0]);
            if (strcmp(name, "style") == 0) p = strstr(p, "</style>");
        }
        assert_non_null(p);
    }
    assert_int_equal(depth, 0);
}

static void check_alone(const char *text)
{
    static const char *const words[] = {"http:", "https:",  "url(",        "<script",
                                        "<link", "@import", "javascript:", "src=\"//"};
    for (size_t i = 0; i < CN_COUNT(words); i++)
        if (strstr(text, words[i])) fail_msg("the page holds %s", words[i]);
    assert_int_equal(count(text, "src="), count(text, "src=\"data:image/png;base64,"));
    assert_int_equal(count(text, "<img "), count(text, "src="));
    assert_int_equal(count(text, "href="), 0);
}

/* --- pages ------------------------------------------------------------------------------------ */

static cn_status write_section(const cn_report_section *s)
{
    return cn_report_write(
        ctx, &(cn_report_options){.path = page, .title = "Report", .sections = s, .n_sections = 1});
}

static void every_text_is_escaped(void **state)
{
    (void)state;
    static const char evil[] = "a<b> & \"c\" 'd' </title><script>x</script>\x01";
    cn_image *image = NULL;
    must(cn_image_create(ctx, 3, 2, &image));
    const cn_report_picture pictures[] = {{image, evil}, {image, NULL}};
    const cn_report_row row = {evil, pictures, 2};
    const cn_report_number number = {evil, evil};
    const cn_report_section section = {
        .title = evil, .text = evil, .rows = &row, .n_rows = 1, .numbers = &number, .n_numbers = 1};
    must(cn_report_write(ctx, &(cn_report_options){.path = page,
                                                   .title = evil,
                                                   .text = evil,
                                                   .numbers = &number,
                                                   .n_numbers = 1,
                                                   .sections = &section,
                                                   .n_sections = 1}));
    char *text = NULL;
    read_page(&text);
    check_well_formed(text);
    check_alone(text);
    assert_true(count(text, "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;") == 12);
    assert_int_equal(count(text, "\x01"), 0);
    cn_free(text);
    cn_image_destroy(image);
}

/* The first picture's bytes. */
static size_t decode_picture(const char *text, uint8_t *out, size_t cap)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = strstr(text, "base64,");
    unsigned v = 0, bits = 0;
    size_t n = 0;
    assert_non_null(p);
    for (p += strlen("base64,"); *p != '"' && *p != '='; p++) {
        const char *digit = strchr(digits, *p);
        assert_non_null(digit);
        v = v << 6 | (unsigned)(digit - digits);
        if ((bits += 6) < 8) continue;
        assert_true(n < cap);
        out[n++] = (uint8_t)(v >> (bits -= 8));
    }
    return n;
}

static void pictures_come_back(void **state)
{
    (void)state;
    for (int64_t width = 5; width < 8; width++) { /* the three lengths modulo 3 occur */
        cn_image *image = NULL, *back = NULL;
        must(cn_image_create(ctx, width, 4, &image));
        for (int64_t i = 0; i < width * 12; i++) image->rgb[i] = (uint8_t)(37 * i * width);
        const cn_report_picture picture = {image, "noise"};
        const cn_report_row row = {NULL, &picture, 1};
        must(write_section(&(cn_report_section){.rows = &row, .n_rows = 1}));
        char *text = NULL;
        read_page(&text);
        uint8_t png[4096];
        const size_t n = decode_picture(text, png, sizeof png);
        cn_free(text);
        must(cn_image_load_memory(ctx, png, n, &back));
        assert_int_equal(back->width, width);
        assert_memory_equal(back->rgb, image->rgb, (size_t)(width * 12));
        cn_image_destroy(image);
        cn_image_destroy(back);
    }
}

static void paragraphs_are_told_apart(void **state)
{
    (void)state;
    must(write_section(&(cn_report_section){.text = "one\ntwo\n\n\nthree\n\n--a-1; 3 < --b"}));
    char *text = NULL;
    read_page(&text);
    check_well_formed(text);
    assert_non_null(strstr(text, "<p>one two</p>\n<p>three</p>\n"
                                 "<p><code>--a-1</code>; 3 &lt; <code>--b</code></p>"));
    cn_free(text);
}

static void rows_have_a_limit(void **state)
{
    (void)state;
    const cn_report_row row = {"none", NULL, 0};
    unlink(page);
    assert_int_equal(write_section(&(cn_report_section){.rows = &row, .n_rows = 1}), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "1 to 12"));
    assert_false(cn_file_exists(page));
}

/* --- curves ----------------------------------------------------------------------------------- */

#define VALIDATION                                                          \
    "{\"event\": \"validation\", \"step\": %d, \"loss_with_control\": %g, " \
    "\"loss_without_control\": 0.2, \"agreement_with_control\": %g, "       \
    "\"agreement_without_control\": 0.1, \"zero_conv_rms_mean\": %g, \"learned_at_step\": %d}\n"

static void a_run_becomes_curves(void **state)
{
    (void)state;
    cn_str lines = {0};
    for (int i = 1; i <= 2000; i++) {
        cn_str_addf(&lines, "{\"step\": %d, \"loss\": %g, \"lr\": 0.0005}\n", i,
                    0.1 + 50.0 / (i + 99));
        if (i % 500 == 0)
            cn_str_addf(&lines, VALIDATION, i, 0.19 - i * 1e-5, i * 3e-4, i * 1e-5,
                        i >= 1000 ? 1000 : -1);
    }
    write_metrics(lines.data);
    cn_str_free(&lines);
    n_warnings = 0;
    must(write_section(&(cn_report_section){.title = "Curves", .metrics = metrics}));
    char *text = NULL;
    read_page(&text);
    check_well_formed(text);
    check_alone(text);
    assert_int_equal(count(text, "<svg "), 4);
    assert_int_equal(count(text, "control learned, step 1000"), 4);
    assert_int_equal(count(text, "training step</text>"), 4);
    assert_int_equal(count(text, "<polyline"), 7);
    assert_int_equal(count(text, "<circle"), 4 * 5);
    assert_non_null(strstr(text, "<title>step 1500: 0.45</title>"));
    assert_int_equal(n_warnings, 0);
    assert_int_equal(count(text, "nan"), 0);
    assert_true(strlen(text) < 60000);
    cn_free(text);
}

static void add_metrics(const char *text)
{
    FILE *f = fopen(metrics, "a");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A run writes its page at each validation: the same as if all were read at the end, each line read
 * once. What was read may even be lost. */
static void curves_grow_with_their_file(void **state)
{
    (void)state;
    enum { VALIDATIONS = 20, STEPS = 475 }; /* 9,520 lines */
    const cn_report_section section = {.title = "Curves", .metrics = metrics};
    const cn_report_options options = {
        .path = page, .title = "Report", .sections = &section, .n_sections = 1};
    cn_curves *curves = NULL;
    char *whole = NULL, *grown = NULL, *after = NULL;
    write_metrics("");
    must(cn_curves_open(ctx, metrics, &curves));
    n_warnings = 0;
    for (int k = 1; k <= VALIDATIONS; k++) {
        cn_str lines = {0};
        for (int i = (k - 1) * STEPS + 1; i <= k * STEPS; i++)
            cn_str_addf(&lines, "{\"step\": %d, \"loss\": %g}\n", i, 0.1 + 50.0 / (i + 99));
        cn_str_addf(&lines, VALIDATION, k * STEPS, 0.19 - k * 1e-3, k * 0.04, k * 1e-3,
                    k > 9 ? 9 * STEPS : -1);
        add_metrics(lines.data);
        cn_str_free(&lines);
        must(cn_report_write_curves(ctx, &options, curves));
    }
    read_page(&grown);
    must(cn_report_write(ctx, &options));
    read_page(&whole);
    assert_string_equal(grown, whole);
    FILE *f = fopen(metrics, "r+");
    assert_true(f && fputs("lost", f) >= 0 && fclose(f) == 0);
    must(cn_report_write_curves(ctx, &options, curves));
    read_page(&after);
    assert_string_equal(after, whole);
    assert_int_equal(n_warnings, 0);
    cn_curves_close(curves);
    cn_free(whole);
    cn_free(grown);
    cn_free(after);
}

static void damaged_lines_are_named(void **state)
{
    (void)state;
    write_metrics("{\"step\": 1, \"loss\": 0.5}\n"
                  "{\"step\": 2, \"lo\n"
                  "{\"loss\": 0.4}\n"
                  "{\"step\": 4, \"loss\": null}\n"
                  "[1, 2]\n"
                  "{\"step\": -1e300, \"loss\": 1}\n"
                  "{\"step\": 5, \"loss\": 0.3}");
    n_warnings = 0;
    must(write_section(&(cn_report_section){.metrics = metrics}));
    assert_int_equal(n_warnings, 4);
    assert_non_null(strstr(last_warning, "metrics.jsonl:6"));
    char *text = NULL;
    read_page(&text);
    check_well_formed(text);
    assert_int_equal(count(text, "<svg "), 1);
    assert_non_null(strstr(text, "4 damaged lines left out: "));
    assert_non_null(strstr(text, "metrics.jsonl:2: not valid JSON"));
    assert_non_null(strstr(text, "metrics.jsonl:3: no &quot;step&quot;"));
    assert_non_null(strstr(text, "; and 1 more</p>"));
    cn_free(text);
}

/* Values that leave an axis nothing to divide. */
static void strange_numbers_do_no_harm(void **state)
{
    (void)state;
    write_metrics("{\"step\": 0, \"loss\": 0}\n{\"step\": 0, \"loss\": 0}\n"
                  "{\"step\": 1000000000000, \"loss\": 1e300}\n"
                  "{\"event\": \"validation\", \"step\": 7, \"loss_with_control\": 1e11, "
                  "\"loss_without_control\": 100000000000.01, \"agreement_with_control\": -1e-300, "
                  "\"zero_conv_rms_mean\": 1e-30, \"learned_at_step\": 9}\n");
    must(write_section(&(cn_report_section){.metrics = metrics}));
    char *text = NULL;
    read_page(&text);
    check_well_formed(text);
    assert_int_equal(count(text, "nan"), 0);
    assert_int_equal(count(text, "inf"), 0);
    cn_free(text);
    write_metrics("");
    must(write_section(&(cn_report_section){.metrics = metrics}));
    read_page(&text);
    check_well_formed(text);
    assert_int_equal(count(text, "<svg "), 0);
    cn_free(text);
}

static void a_missing_file_is_said(void **state)
{
    (void)state;
    unlink(metrics);
    unlink(page);
    assert_int_equal(write_section(&(cn_report_section){.metrics = metrics}), CN_EIO);
    assert_non_null(strstr(cn_error(ctx), "metrics.jsonl"));
    assert_false(cn_file_exists(page));
}

static void memory_may_run_out(void **state)
{
    (void)state;
    write_metrics("{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": 0.5}\n");
    cn_status s = CN_ENOMEM;
    for (int64_t n = 0; s != CN_OK; n++) {
        assert_true(n < 200);
        cn_ctx_fail_alloc_after(ctx, n);
        s = write_section(&(cn_report_section){.text = "one\n\ntwo", .metrics = metrics});
        assert_true(s == CN_OK || s == CN_ENOMEM);
    }
    cn_ctx_fail_alloc_after(ctx, -1);
}

/* --- agreement -------------------------------------------------------------------------------- */

static void agreement_is_told(void **state)
{
    (void)state;
    cn_image *a = NULL, *b = NULL, *c = NULL;
    cn_agreement is = {.score = -1};
    must(cn_image_create(ctx, 16, 16, &a));
    must(cn_image_create(ctx, 16, 16, &b));
    must(cn_image_create(ctx, 16, 8, &c));
    for (int64_t y = 0; y < 16; y++) {
        memset(a->rgb + (y * 16 + 4) * 3, 255, 3);
        memset(b->rgb + (y * 16 + 5) * 3, 255, 3); /* one pixel beside it */
    }
    must(cn_condition_agreement(ctx, "canny", a, b, &is));
    assert_float_equal(is.score, 1, 1e-9);
    assert_string_equal(is.measure, "edge F1");
    memset(b->rgb, 0, 16 * 16 * 3);
    must(cn_condition_agreement(ctx, "canny", a, b, &is));
    assert_float_equal(is.score, 0, 1e-9);
    assert_int_equal(cn_condition_agreement(ctx, "canny", a, c, &is), CN_EINVAL);
    assert_int_equal(cn_condition_agreement(ctx, "invert", a, b, &is), CN_EINVAL);
    assert_int_equal(cn_condition_agreement(ctx, "nothing", a, b, &is), CN_EINVAL);
    cn_image_destroy(a);
    cn_image_destroy(b);
    cn_image_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_is_escaped),       cmocka_unit_test(pictures_come_back),
        cmocka_unit_test(paragraphs_are_told_apart),   cmocka_unit_test(rows_have_a_limit),
        cmocka_unit_test(curves_grow_with_their_file), cmocka_unit_test(a_run_becomes_curves),
        cmocka_unit_test(damaged_lines_are_named),     cmocka_unit_test(strange_numbers_do_no_harm),
        cmocka_unit_test(a_missing_file_is_said),      cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(agreement_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
