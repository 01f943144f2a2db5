/* SPDX-License-Identifier: Apache-2.0 */
/* test_prompt.c - prompts: weights, chunks, stages, embeddings, and the features that come of them.
 *
 * Expected features: tools/make-prompt-fixtures.py. The tables of weights and stages are what
 * stable-diffusion-webui's parse_prompt_attention and get_learned_conditioning_prompt_schedules
 * give.
 */
#include "../support/env.h"
#include "../support/tiny_model.h"
#include "../support/values.h"

#include "diffuse/text.h"
#include "io/json.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/prompts/"

static test_env env;
static char root[] = "/tmp/controlnet-prompt-XXXXXX";
static cn_base *base;
static cn_tokenizer *tokenizer;
static cn_inversions words;
static cn_params *params;

#define OK(call)                                                \
    do {                                                        \
        if ((call) != CN_OK) fail_msg("%s", cn_error(env.ctx)); \
    } while (0)

/* --- weights ---------------------------------------------------------------------------------- */

typedef struct want_piece {
    const char *text;
    double weight;
} want_piece;

static void test_weights(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        want_piece want[10];
    } cases[] = {
        {"", {{"", 1}}},
        {"normal text", {{"normal text", 1}}},
        {"an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}}},
        {"(unbalanced", {{"unbalanced", 1.1}}},
        {"\\(literal\\]", {{"(literal]", 1}}},
        {"(unnecessary)(parens)", {{"unnecessaryparens", 1.1}}},
        {"a [b", {{"a ", 1}, {"b", 1 / 1.1}}},
        {"a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
         {{"a ", 1},
          {"house", 1.3 * 1.1 * 1.1},
          {" ", 1.1},
          {"on", 1},
          {" a ", 1.1},
          {"hill", 0.55},
          {", sun, ", 1.1},
          {"sky", 1.1 * 1.1 * 1.1 * 1.1},
          {".", 1.1}}},
        {"a BREAK b", {{"a", 1}, {"BREAK", -1}, {"b", 1}}},
        {"aBREAK: BREAKs", {{"aBREAK: BREAKs", 1}}},
        {"(a BREAK b)", {{"a", 1.1}, {"BREAK", -1.1}, {"b", 1.1}}},
        {"(a: 2 ) ) :1)", {{"a", 2}, {" ) :1)", 1}}},
        {"(a:-1)\\", {{"a", -1}, {"", 1}}},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_prompt_piece *p = NULL;
        int n = 0, want = 0;
        OK(cn_prompt_weigh(env.ctx, cases[i].prompt, &p, &n));
        while (want < 10 && cases[i].want[want].text) want++;
        if (n != want) fail_msg("%s: %d pieces instead of %d", cases[i].prompt, n, want);
        for (int k = 0; k < n; k++) {
            const want_piece *w = &cases[i].want[k];
            assert_string_equal(p[k].text.data ? p[k].text.data : "", w->text);
            assert_true(fabs(p[k].weight - w->weight) < 1e-12);
        }
        cn_prompt_pieces_free(p, n);
    }
    cn_prompt_piece *p = NULL;
    int n = 0;
    assert_int_equal(cn_prompt_weigh(env.ctx, "(a:1.2.3)", &p, &n), CN_EINVAL);
    assert_non_null(strstr(cn_error(env.ctx), "1.2.3"));
}

/* --- stages ----------------------------------------------------------------------------------- */

static void test_stages(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        struct {
            int until;
            const char *text;
        } want[12];
    } cases[] = {
        {"test", {{10, "test"}}},
        {"", {{10, ""}}},
        {"a [b:3]", {{3, "a "}, {10, "a b"}}},
        {"a [b: 3 ]", {{3, "a "}, {10, "a b"}}},
        {"a [[[b]]:2]", {{2, "a "}, {10, "a [[b]]"}}},
        {"[(a:2):3]", {{3, ""}, {10, "(a:2)"}}},
        {"a [b : c : 1] d", {{1, "a b  d"}, {10, "a  c  d"}}},
        {"a[b:[c:d:2]:1]e", {{1, "abe"}, {2, "ace"}, {10, "ade"}}},
        {"a [unbalanced", {{10, "a [unbalanced"}}},
        {"a [b:.5] c", {{5, "a  c"}, {10, "a b c"}}},
        {"a [b::0.25] c", {{2, "a b c"}, {10, "a  c"}}},
        {"((a][:b:c [d:3]", {{3, "((a][:b:c "}, {10, "((a][:b:c d"}}},
        {"[a|(b:1.1)]",
         {{1, "a"},
          {2, "(b:1.1)"},
          {3, "a"},
          {4, "(b:1.1)"},
          {5, "a"},
          {6, "(b:1.1)"},
          {7, "a"},
          {8, "(b:1.1)"},
          {9, "a"},
          {10, "(b:1.1)"}}},
        {"[fe|||]male",
         {{1, "female"},
          {2, "male"},
          {3, "male"},
          {4, "male"},
          {5, "female"},
          {6, "male"},
          {7, "male"},
          {8, "male"},
          {9, "female"},
          {10, "male"}}},
        {"a | [b:3]", {{10, "a | [b:3]"}}},
        {"a [b:0] [c:30]", {{10, "a b "}}},
        {"\\[a:3\\] [a\\:b:c:1.0]", {{10, "\\[a:3\\] a\\:b"}}},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_prompt_stage *s = NULL;
        int n = 0, want = 0;
        OK(cn_prompt_schedule(env.ctx, cases[i].prompt, 10, 0, &s, &n));
        while (want < 12 && cases[i].want[want].text) want++;
        if (n != want) fail_msg("%s: %d stages instead of %d", cases[i].prompt, n, want);
        for (int k = 0; k < n; k++) {
            assert_int_equal(s[k].until, cases[i].want[k].until);
            assert_string_equal(s[k].text, cases[i].want[k].text);
        }
        cn_prompt_stages_free(s, n);
    }
}

/* A second pass of 10 steps behind 20: parts of the steps above 1 and steps above 20 are its
 * own. */
static void test_second_pass(void **state)
{
    (void)state;
    static const struct {
        const char *prompt;
        int n, until;
        const char *first, *last;
    } cases[] = {{"a [b:.5] c", 1, 10, "a b c", "a b c"},
                 {"a [b:1.5] c", 2, 5, "a  c", "a b c"},
                 {"a [b:c:13]", 1, 10, "a c", "a c"},
                 {"a [b:c:23]", 2, 3, "a b", "a c"},
                 {"[a|b]", 10, 1, "a", "b"}};
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_prompt_stage *s = NULL;
        int n = 0;
        OK(cn_prompt_schedule(env.ctx, cases[i].prompt, 10, 20, &s, &n));
        assert_int_equal(n, cases[i].n);
        assert_int_equal(s[0].until, cases[i].until);
        assert_string_equal(s[0].text, cases[i].first);
        assert_string_equal(s[n - 1].text, cases[i].last);
        cn_prompt_stages_free(s, n);
    }
}

/* Deep nesting ends soon and as text. */
static void test_deep(void **state)
{
    (void)state;
    enum { DEPTH = 20000 };
    char *text = test_alloc(3 * DEPTH + 1);
    cn_prompt_stage *s = NULL;
    int n = 0;
    for (int i = 0; i < DEPTH; i++) memcpy(text + 3 * i, "[a|", 3);
    text[3 * DEPTH] = 0;
    OK(cn_prompt_schedule(env.ctx, text, 10, 0, &s, &n));
    assert_int_equal(n, 1);
    assert_string_equal(s[0].text, text);
    cn_prompt_stages_free(s, n);
    free(text);
}

/* --- features --------------------------------------------------------------------------------- */

static cn_status load_text(void *user, cn_params *p)
{
    (void)user;
    return cn_base_load(env.ctx, base, env.backend, p);
}

/* The file keeps features in F16, whose rounding is 5e-4 of a value. */
static void check_case(const cn_tensors *file, const json_t *entry)
{
    const char *name = cn_json_str(entry, "name", "");
    const json_t *texts = json_object_get(entry, "texts");
    int n = (int)json_array_size(texts), chunks = 0;
    bool webui = !strcmp(cn_json_str(entry, "style", ""), "webui");
    cn_text read[8] = {{{NULL}}};
    const cn_text_spec spec = {.encoders = {{.clip = &base->text[0],
                                             .params = params,
                                             .tokenizer = tokenizer,
                                             .embeddings = &words}},
                               .n = 1,
                               .skip = (int)cn_json_int(entry, "skip", 0),
                               .load = load_text};
    for (int i = 0; i < n; i++) {
        OK(cn_text_read(env.ctx, &spec, webui ? CN_PROMPT_WEBUI : CN_PROMPT_PLAIN,
                        json_string_value(json_array_get(texts, (size_t)i)), NULL, &read[i]));
        chunks = CN_MAX(chunks, read[i].of[0]->n_chunks);
    }
    if (chunks != cn_json_int(entry, "chunks", 0)) fail_msg("%s: %d chunks", name, chunks);
    float *got = NULL;
    OK(cn_text_encode_read(env.ctx, env.backend, &spec, read, n, 1, &got, NULL));
    const cn_tensor_info *t = cn_tensors_find(file, name);
    assert_non_null(t);
    assert_int_equal(t->elements, (int64_t)n * chunks * 77 * base->text[0].hidden);
    float *want = test_alloc((size_t)t->elements * sizeof *want);
    OK(cn_tensors_read(env.ctx, file, t, want));
    double error = test_relative(test_compare_f32(got, want, t->elements));
    if (error > 1e-3) fail_msg("%s: error %g", name, error);
    free(want);
    cn_free(got);
    for (int i = 0; i < n; i++) cn_text_free(&read[i]);
}

static void test_features(void **state)
{
    (void)state;
    json_t *cases = NULL;
    cn_tensors *file = NULL;
    OK(cn_json_load_file(env.ctx, GOLDEN "features.json", &cases));
    OK(cn_tensors_open(env.ctx, GOLDEN "features.safetensors", &file));
    assert_true(json_array_size(cases) > 10);
    for (size_t i = 0; i < json_array_size(cases); i++) check_case(file, json_array_get(cases, i));
    cn_tensors_close(file);
    json_decref(cases);
}

/* --- counts and what is left out -------------------------------------------------------------- */

static cn_prompt *read_prompt(cn_prompt_style style, const char *text)
{
    cn_prompt *p = NULL;
    OK(cn_prompt_read(env.ctx, tokenizer, &words, style, text, 77, &p));
    return p;
}

static void test_counts(void **state)
{
    (void)state;
    cn_str text = {0};
    for (int i = 0; i < 78; i++) cn_str_adds(&text, i == 77 ? "bad quality" : "dog ");
    cn_prompt *p = read_prompt(CN_PROMPT_PLAIN, text.data);
    assert_int_equal(p->tokens, 79);
    assert_int_equal(p->cut, 4);
    assert_int_equal(p->n_chunks, 1);
    assert_string_equal(p->cut_text, "dog dog bad quality");
    assert_int_equal(p->ids[76], cn_tokenizer_eos(tokenizer));
    cn_prompt_destroy(p);
    p = read_prompt(CN_PROMPT_WEBUI, text.data);
    cn_str_free(&text);
    assert_int_equal(p->tokens, 79);
    assert_int_equal(p->cut, 0);
    assert_int_equal(p->n_chunks, 2);
    assert_null(p->cut_text);
    assert_int_equal(p->ids[77], cn_tokenizer_bos(tokenizer));
    assert_int_equal(p->ids[77 + 5], cn_tokenizer_eos(tokenizer));
    OK(cn_prompt_pad(env.ctx, tokenizer, p, 3));
    assert_int_equal(p->n_chunks, 3);
    assert_int_equal(p->ids[155], cn_tokenizer_eos(tokenizer));
    cn_prompt_destroy(p);
}

/* Of SD 2.x the padding token differs from the end token. */
static void test_padding_token(void **state)
{
    (void)state;
    int32_t pad = cn_tokenizer_pad(tokenizer), eos = cn_tokenizer_eos(tokenizer);
    cn_tokenizer_set_pad(tokenizer, 0);
    cn_str text = {0};
    for (int i = 0; i < 60; i++) cn_str_adds(&text, "dog ");
    cn_str_adds(&text, ", ");
    for (int i = 0; i < 20; i++) cn_str_adds(&text, "best ");
    cn_prompt *p = read_prompt(CN_PROMPT_WEBUI, text.data);
    cn_str_free(&text);
    assert_int_equal(p->n_chunks, 2);
    assert_int_equal(p->ids[62], eos);
    for (int i = 63; i < 77; i++) assert_int_equal(p->ids[i], 0);
    assert_int_equal(p->ids[77 + 21], eos);
    assert_int_equal(p->ids[77 + 22], 0);
    cn_prompt_destroy(p);
    cn_tokenizer_set_pad(tokenizer, pad);
}

/* --- embeddings ------------------------------------------------------------------------------- */

static void expect_refused(const char *file, int64_t width, const char *says)
{
    cn_inversions e = {0};
    char path[CN_PATH_BYTES];
    snprintf(path, sizeof path, "%s%s", file[0] == '/' ? "" : GOLDEN, file);
    assert_int_not_equal(cn_inversions_add(env.ctx, &e, tokenizer, path, NULL, width), CN_OK);
    if (!strstr(cn_error(env.ctx), says)) fail_msg("%s", cn_error(env.ctx));
    assert_int_equal(e.n, 0);
    cn_inversions_free(&e);
}

static void test_embeddings(void **state)
{
    (void)state;
    const char *text = "catalogue dogstyles <TWO> dogstyle";
    size_t n = strlen(text);
    assert_null(cn_inversions_at_text(&words, text, n, 10));
    const cn_inversion *two = cn_inversions_at_text(&words, text, n, 20);
    assert_non_null(two);
    assert_string_equal(two->word, "<two>");
    assert_int_equal(two->n, 2);
    assert_non_null(cn_inversions_at_text(&words, text, n, 26));
    expect_refused("bad-dog.pt", 768, "32 wide");
    expect_refused("features.safetensors", 32, "textual inversion");
    char model[CN_PATH_BYTES];
    snprintf(model, sizeof model, "%s/model.safetensors", root);
    expect_refused(model, 32, "Stable Diffusion base model");
    cn_inversions e = {0};
    OK(cn_inversions_add_dir(env.ctx, &e, tokenizer, GOLDEN, NULL, 32));
    assert_int_equal(e.n, words.n);
    cn_inversions_free(&e);
    assert_int_equal(cn_inversions_add_dir(env.ctx, &e, tokenizer, "no/such", NULL, 32), CN_EIO);
}

static int setup(void **state)
{
    (void)state;
    static const char *const files[] = {"bad-dog.pt", "dogstyle.safetensors", "learned_embeds.bin",
                                        "twofold.safetensors"};
    char model[CN_PATH_BYTES], path[CN_PATH_BYTES];
    if (!test_env_open(&env, 0) || !mkdtemp(root)) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    cn_status s =
        tiny_model_write(env.ctx, "tests/golden/core", "tests/golden/pipelines/merges.json", root);
    if (s == CN_OK) s = cn_base_open(env.ctx, model, &base);
    if (s == CN_OK) s = cn_base_tokenizer(env.ctx, base, 0, NULL, &tokenizer);
    if (s == CN_OK) s = cn_net_params(env.ctx, CN_NET_TEXT, &params);
    for (size_t i = 0; s == CN_OK && i < CN_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s%s", GOLDEN, files[i]);
        s = cn_inversions_add(env.ctx, &words, tokenizer, path, NULL, base->text[0].hidden);
    }
    if (s != CN_OK) printf("%s\n", cn_error(env.ctx));
    return s == CN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_params_destroy(params);
    cn_inversions_free(&words);
    cn_tokenizer_close(tokenizer);
    cn_base_close(base);
    tiny_model_remove(root);
    test_env_close(&env);
    return 0;
}

/* Of two encoders each gives what it gives alone, in columns of its own. */
static void test_side_by_side(void **state)
{
    (void)state;
    static const char *const texts[] = {"a (red:1.3) cube", "a cube BREAK on (grass)"};
    enum { N = CN_COUNT(texts) };
    cn_params *second = NULL;
    OK(cn_net_declare(env.ctx, cn_net_text(1), &base->text[0], &second));
    OK(test_fill_params(&env, second, "second.", 0, 0.2f));
    const cn_text_encoder encoders[2] = {
        {.clip = &base->text[0], .params = params, .tokenizer = tokenizer, .embeddings = &words},
        {.clip = &base->text[0], .params = second, .tokenizer = tokenizer}};
    float *got[3] = {NULL};
    int chunks = 0;
    for (int k = 0; k < 3; k++) { /* the first, the second, both */
        cn_text read[N];
        cn_text_spec spec = {.encoders = {encoders[k % 2], encoders[1]}, .n = 1, .load = load_text};
        if (k == 2) spec.n = 2;
        for (int i = 0; i < N; i++) {
            OK(cn_text_read(env.ctx, &spec, CN_PROMPT_WEBUI, texts[i], NULL, &read[i]));
            chunks = CN_MAX(chunks, read[i].of[0]->n_chunks);
        }
        OK(cn_text_encode_read(env.ctx, env.backend, &spec, read, N, 1, &got[k], NULL));
        for (int i = 0; i < N; i++) cn_text_free(&read[i]);
    }
    const int64_t width = base->text[0].hidden, rows = (int64_t)N * chunks * 77;
    const size_t bytes = (size_t)width * sizeof(float);
    assert_int_equal(chunks, 2);
    for (int64_t r = 0; r < rows; r++) {
        assert_memory_equal(got[2] + 2 * r * width, got[0] + r * width, bytes);
        assert_memory_equal(got[2] + (2 * r + 1) * width, got[1] + r * width, bytes);
    }
    assert_memory_not_equal(got[0], got[1], bytes);
    for (int k = 0; k < 3; k++) cn_free(got[k]);
    cn_params_destroy(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),       cmocka_unit_test(test_stages),
        cmocka_unit_test(test_second_pass),   cmocka_unit_test(test_deep),
        cmocka_unit_test(test_features),      cmocka_unit_test(test_counts),
        cmocka_unit_test(test_padding_token), cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_side_by_side),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
