/* SPDX-License-Identifier: Apache-2.0 */
/* test_tokenizer.c - CLIP's tokenizer against transformers' (tests/golden/tokens.json, with CLIP's
 * own vocabulary where it can be found), and all else on a small vocabulary trained here.
 *
 * CLIP's vocabulary is looked for in CN_CLIP_VOCAB (a folder or file as --tokenizer takes it), then
 * in CN_SHARED (default ../shared).
 */
#include "model/text/bpe.h"
#include "model/text/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DIR "build/tests/tokenizer.tmp"

static cn_ctx *ctx;
static cn_tokenizer *small; /* 600 tokens, from captions[] */

static const char *const captions[] = {
    "a photo of a cat",
    "a photo of a dog",
    "the cat's photo",
    "a red circle on a blue box",
    "two red boxes",
    "a blue circle with a red border",
    "na\xc3\xafve caf\xc3\xa9",
    "photos, photos and photos",
    "an old lace background",
    "a circle in the background",
    "a box in a box in a box",
};

static void check_ok(cn_status s)
{
    if (s != CN_OK) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
}

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    assert_non_null(ctx);
    check_ok(cn_bpe_train(ctx, captions, CN_COUNT(captions), 600, 16, DIR));
    check_ok(cn_tokenizer_open(ctx, DIR, &small));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cn_tokenizer_close(small);
    cn_ctx_destroy(ctx);
    static const char *const files[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    for (size_t i = 0; i < CN_COUNT(files); i++) {
        char path[256];
        snprintf(path, sizeof path, DIR "/%s", files[i]);
        unlink(path);
    }
    rmdir(DIR);
    return 0;
}

/* --- against transformers --------------------------------------------------------------------- */

static cn_tokenizer *open_clip(void)
{
    char path[4096];
    const char *given = getenv("CN_CLIP_VOCAB"), *shared = getenv("CN_SHARED");
    snprintf(path, sizeof path, "%s/reference/pipelines/model/tokenizer",
             shared ? shared : "../shared");
    if (!given && !cn_dir_exists(path)) {
        print_message("skipped: no CLIP vocabulary; set CN_CLIP_VOCAB (tools/clip-vocab.sh fetches "
                      "it) or CN_SHARED\n");
        skip();
    }
    cn_tokenizer *t = NULL;
    check_ok(cn_tokenizer_open(ctx, given ? given : path, &t));
    return t;
}

static void check_ids(const char *text, const char *what, const int32_t *got, int64_t n,
                      const json_t *want)
{
    if ((size_t)n != json_array_size(want)) {
        fail_msg("\"%s\", %s: %lld ids instead of %zu", text, what, (long long)n,
                 json_array_size(want));
    }
    for (int64_t i = 0; i < n; i++) {
        long long id = json_integer_value(json_array_get(want, (size_t)i));
        if (got[i] != id) {
            fail_msg("\"%s\", %s[%lld]: %d instead of %lld", text, what, (long long)i, got[i], id);
        }
    }
}

static void test_matches_transformers(void **state)
{
    (void)state;
    cn_tokenizer *t = open_clip();
    assert_int_equal(cn_tokenizer_size(t), 49408);
    assert_int_equal(cn_tokenizer_bos(t), 49406);
    assert_int_equal(cn_tokenizer_eos(t), 49407);
    assert_int_equal(cn_tokenizer_pad(t), 49407);
    json_error_t error;
    json_t *cases = json_load_file("tests/golden/tokens.json", JSON_ALLOW_NUL, &error);
    assert_non_null(cases);
    assert_true(json_array_size(cases) > 0);
    size_t i;
    json_t *one;
    json_array_foreach(cases, i, one)
    {
        const json_t *text = json_object_get(one, "text");
        const char *s = json_string_value(text);
        const json_t *want = json_object_get(one, "ids");
        int32_t *all, fitted[128];
        int64_t n, max = (int64_t)json_array_size(want), untruncated;
        assert_true(max <= (int64_t)CN_COUNT(fitted));
        check_ok(cn_tokenizer_encode_bytes(ctx, t, s, json_string_length(text), &all, &n));
        check_ids(s, "untruncated", all, n, json_object_get(one, "untruncated"));
        cn_tokenizer_fit(t, all, n, fitted, max);
        check_ids(s, "ids", fitted, max, want);
        cn_free(all);
        if (strlen(s) != json_string_length(text)) continue;
        check_ok(cn_tokenizer_encode(ctx, t, s, fitted, max, &untruncated));
        check_ids(s, "ids", fitted, max, want);
        assert_int_equal(untruncated, n);
    }
    json_decref(cases);
    cn_tokenizer_close(t);
}

/* --- on the small vocabulary ------------------------------------------------------------------ */

static void check_round_trip(const char *text, const char *want)
{
    int32_t *ids;
    int64_t n;
    check_ok(cn_tokenizer_encode_all(ctx, small, text, &ids, &n));
    assert_true(n >= 2);
    assert_int_equal(ids[0], cn_tokenizer_bos(small));
    assert_int_equal(ids[n - 1], cn_tokenizer_eos(small));
    cn_str back = {0};
    check_ok(cn_tokenizer_decode(ctx, small, ids, n, &back));
    assert_string_equal(back.data ? back.data : "", want);
    cn_str_free(&back);
    cn_free(ids);
}

static void test_round_trip(void **state)
{
    (void)state;
    check_round_trip("", "");
    check_round_trip("a photo of a cat", "a photo of a cat");
    check_round_trip("A \t Photo\n of\xc2\xa0"
                     "a CAT ",
                     "a photo of a cat");
    check_round_trip("it's 42!?", "it 's 4 2 !?");
    check_round_trip("nai\xcc\x88ve", "na\xc3\xafve"); /* NFC */
    check_round_trip("\xc4\xb0", "i \xcc\x87");        /* I with a dot above */
    check_round_trip("\xf0\x9f\x98\x80 \xe6\x97\xa5", "\xf0\x9f\x98\x80 \xe6\x97\xa5");
    check_round_trip("<|ENDOFTEXT|>!", "<| endoftext |> !"); /* in capitals: not special */
}

static void test_frequent_words_are_one_token(void **state)
{
    (void)state;
    int32_t ids[8];
    int64_t n;
    check_ok(cn_tokenizer_encode(ctx, small, "a photo circle", ids, 8, &n));
    assert_int_equal(n, 5);
}

static void test_truncation_and_padding(void **state)
{
    (void)state;
    int32_t ids[6], *all;
    int64_t n, untruncated;
    int32_t eos = cn_tokenizer_eos(small);
    check_ok(cn_tokenizer_encode_all(ctx, small, "1 2 3 4 5 6", &all, &n));
    assert_int_equal(n, 8);
    check_ok(cn_tokenizer_encode(ctx, small, "1 2 3 4 5 6", ids, 6, &untruncated));
    assert_int_equal(untruncated, 8);
    assert_memory_equal(ids, all, 5 * sizeof *ids);
    assert_int_equal(ids[5], eos);
    cn_free(all);
    check_ok(cn_tokenizer_encode(ctx, small, "1 2 3 4", ids, 6, NULL));
    assert_int_equal(ids[5], eos);
    check_ok(cn_tokenizer_encode(ctx, small, "1", ids, 6, NULL));
    for (int i = 2; i < 6; i++) assert_int_equal(ids[i], eos);
    check_ok(cn_tokenizer_encode(ctx, small, "1", ids, 2, NULL));
    assert_int_equal(ids[0], cn_tokenizer_bos(small));
    assert_int_equal(ids[1], eos);
    assert_int_equal(cn_tokenizer_encode(ctx, small, "1", ids, 1, NULL), CN_EINVAL);
}

static void test_specials_in_text(void **state)
{
    (void)state;
    int32_t ids[6];
    int64_t n;
    check_ok(cn_tokenizer_encode(ctx, small, "a<|endoftext|>a<|startoftext|>", ids, 6, &n));
    assert_int_equal(n, 6);
    assert_int_equal(ids[1], ids[3]);
    assert_int_equal(ids[2], cn_tokenizer_eos(small));
    assert_int_equal(ids[4], cn_tokenizer_bos(small));
}

static void test_broken_utf8(void **state)
{
    (void)state;
    check_round_trip("a\xff", "a \xef\xbf\xbd");
    check_round_trip("\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd");
    check_round_trip("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
    check_round_trip("\xc0\x80 b", "\xef\xbf\xbd\xef\xbf\xbd b");
}

static void test_nul_in_text(void **state)
{
    (void)state;
    int32_t *ids;
    int64_t n;
    check_ok(cn_tokenizer_encode_bytes(ctx, small, "a\0a", 3, &ids, &n));
    assert_int_equal(n, 5);
    assert_int_equal(ids[1], ids[3]);
    cn_free(ids);
}

static void test_long_text(void **state)
{
    (void)state;
    size_t n = 65537;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'z', n);
    text[n] = 0;
    int32_t ids[16];
    assert_int_equal(cn_tokenizer_encode(ctx, small, text, ids, 16, NULL), CN_EINVAL);
    text[n - 1] = 0;
    check_ok(cn_tokenizer_encode(ctx, small, text, ids, 16, NULL));
    free(text);
}

static void test_training_is_deterministic(void **state)
{
    (void)state;
    char *vocab, *merges, *again;
    size_t vocab_n, merges_n, n;
    check_ok(cn_file_read(ctx, DIR "/vocab.json", 1 << 20, &vocab, &vocab_n));
    check_ok(cn_file_read(ctx, DIR "/merges.txt", 1 << 20, &merges, &merges_n));
    const char *backwards[CN_COUNT(captions)];
    for (size_t i = 0; i < CN_COUNT(captions); i++)
        backwards[i] = captions[CN_COUNT(captions) - 1 - i];
    check_ok(cn_bpe_train(ctx, backwards, CN_COUNT(backwards), 600, 16, DIR));
    check_ok(cn_file_read(ctx, DIR "/vocab.json", 1 << 20, &again, &n));
    assert_int_equal(n, vocab_n);
    assert_memory_equal(again, vocab, n);
    cn_free(again);
    check_ok(cn_file_read(ctx, DIR "/merges.txt", 1 << 20, &again, &n));
    assert_int_equal(n, merges_n);
    assert_memory_equal(again, merges, n);
    cn_free(again);
    cn_free(vocab);
    cn_free(merges);
}

/* The captions' tokens are the small vocabulary's. */
static void same_as_small(const cn_tokenizer *t)
{
    assert_int_equal(cn_tokenizer_size(t), cn_tokenizer_size(small));
    for (size_t i = 0; i < CN_COUNT(captions); i++) {
        int32_t a[16], b[16];
        check_ok(cn_tokenizer_encode(ctx, small, captions[i], a, 16, NULL));
        check_ok(cn_tokenizer_encode(ctx, t, captions[i], b, 16, NULL));
        assert_memory_equal(a, b, sizeof a);
    }
}

/* A list in the form of bpe_simple_vocab_16e6.txt, with the small vocabulary's merges, gives its
 * ids. */
static void test_clip_list_layout(void **state)
{
    (void)state;
    const char *path = DIR "/list.txt";
    char *merges;
    size_t n;
    check_ok(cn_file_read(ctx, DIR "/merges.txt", 1 << 20, &merges, &n));
    check_ok(cn_file_write(ctx, path, merges, n));
    cn_free(merges);
    cn_tokenizer *t;
    check_ok(cn_tokenizer_open(ctx, path, &t));
    unlink(path);
    same_as_small(t);
    cn_tokenizer_close(t);
}

/* --- tokenizer.json --------------------------------------------------------------------------- */

/* The small vocabulary as the tokenizers package writes it: merges as strings up to version 0.19,
 * then as pairs; the last of the special tokens among added_tokens alone. */
static char *small_as_json(bool pairs, size_t *n)
{
    char *text, *at = NULL;
    check_ok(cn_file_read(ctx, DIR "/vocab.json", 1 << 20, &text, n));
    json_t *vocab = json_loadb(text, *n, 0, NULL), *merges = json_array(), *added = json_array();
    const json_int_t end = json_integer_value(json_object_get(vocab, "<|endoftext|>"));
    cn_free(text);
    json_object_del(vocab, "<|endoftext|>");
    json_array_append_new(
        added, json_pack("{s:I, s:s, s:b}", "id", end, "content", "<|endoftext|>", "special", 1));
    check_ok(cn_file_read(ctx, DIR "/merges.txt", 1 << 20, &text, n));
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        char *blank = strchr(line, ' ');
        if (line[0] == '#' || !blank) continue;
        *blank = pairs ? 0 : ' ';
        json_array_append_new(merges,
                              pairs ? json_pack("[s,s]", line, blank + 1) : json_string(line));
    }
    cn_free(text);
    json_t *root = json_pack("{s:s, s:n, s:o, s:{s:s, s:s, s:o, s:o}}", "version", "1.0", "padding",
                             "added_tokens", added, "model", "type", "BPE", "end_of_word_suffix",
                             "</w>", "vocab", vocab, "merges", merges);
    text = json_dumps(root, 0);
    *n = strlen(text);
    json_decref(root);
    return text;
}

static void test_tokenizer_json(void **state)
{
    (void)state;
    char dir[] = "/tmp/controlnet-tokenizer-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    for (int pairs = 0; pairs < 2; pairs++) {
        size_t n;
        char *text = small_as_json(pairs, &n);
        check_ok(cn_file_write(ctx, path, text, n));
        free(text);
        for (int folder = 0; folder < 2; folder++) {
            cn_tokenizer *t;
            check_ok(cn_tokenizer_open(ctx, folder ? dir : path, &t));
            assert_int_equal(cn_tokenizer_pad(t), cn_tokenizer_eos(small));
            same_as_small(t);
            cn_tokenizer_close(t);
        }
    }
    unlink(path);
    rmdir(dir);
}

static void test_bad_json_is_refused(void **state)
{
    (void)state;
#define MODEL(rest) "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"," rest "}}"
#define VOCAB       "\"vocab\":{\"<|startoftext|>\":0,\"<|endoftext|>\":1}"
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"model\":", "line 1"},
        {"{}", "no \"model\""},
        {"{\"model\":{\"type\":\"Unigram\"}}", "a Unigram tokenizer"},
        {"{\"model\":{\"type\":\"BPE\"}}", "words end in \"\""},
        {MODEL(VOCAB), "\"merges\" must be a list"},
        {MODEL("\"merges\":[]"), "not an object of tokens"},
        {MODEL(VOCAB ",\"merges\":[1]"), "merge 0 is neither"},
        {MODEL(VOCAB ",\"merges\":[[\"a\"]]"), "merge 0 is neither"},
        {MODEL(VOCAB ",\"merges\":[\"a b\"]"), "line 1: ab is not in the vocabulary"},
        {"{\"added_tokens\":[{\"id\":1}],\"model\":{\"end_of_word_suffix\":\"</w>\"," VOCAB "}}",
         "added token 0"},
    };
    char path[] = "/tmp/controlnet-tokenizer-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_tokenizer *t = NULL;
        check_ok(cn_file_write(ctx, path, cases[i].text, strlen(cases[i].text)));
        assert_int_not_equal(cn_tokenizer_open(ctx, path, &t), CN_OK);
        if (!strstr(cn_error(ctx), cases[i].says) || !strstr(cn_error(ctx), path))
            fail_msg("\"%s\" lacks \"%s\"", cn_error(ctx), cases[i].says);
    }
    unlink(path);
}

/* --- files that are wrong --------------------------------------------------------------------- */

static void check_refused(const char *vocab, const char *merges, const char *pad, const char *says)
{
    cn_tokenizer *t = NULL;
    cn_status s =
        cn_tokenizer_open_memory(ctx, vocab, strlen(vocab), merges, strlen(merges), pad, &t);
    assert_int_equal(s, CN_EFORMAT);
    assert_null(t);
    if (!strstr(cn_error(ctx), says)) fail_msg("\"%s\" lacks \"%s\"", cn_error(ctx), says);
}

#define SPECIALS "\"<|startoftext|>\":0,\"<|endoftext|>\":1"

static void test_bad_files_are_refused(void **state)
{
    (void)state;
    check_refused("", "", NULL, "vocab.json");
    check_refused("[]", "", NULL, "not an object");
    check_refused("{\"a\":0}", "", NULL, "<|startoftext|>");
    check_refused("{" SPECIALS ",\"a\":7}", "", NULL, "\"a\" has no id of its own");
    check_refused("{" SPECIALS ",\"a\":1}", "", NULL, "has no id of its own");
    check_refused("{" SPECIALS ",\"a\":\"2\"}", "", NULL, "\"a\" has no id of its own");
    check_refused("{" SPECIALS "}", "#version: 0.2\na b\n", NULL, "line 2");
    check_refused("{" SPECIALS "}", "a", NULL, "line 1");
    check_refused("{" SPECIALS "}", "a b c", NULL, "line 1");
    check_refused("{" SPECIALS "}", "", "[PAD]", "[PAD]");
}

/* Bytes without a token become <|endoftext|>. */
static void test_unknown_bytes(void **state)
{
    (void)state;
    const char *vocab = "{" SPECIALS ",\"a\":2,\"b</w>\":3,\"ab</w>\":4,\"!\":5}";
    const char *merges = "#version: 0.2\r\na b</w>\r\n";
    cn_tokenizer *t;
    check_ok(cn_tokenizer_open_memory(ctx, vocab, strlen(vocab), merges, strlen(merges), "!", &t));
    const int32_t want[] = {0, 2, 4, 1, 1, 1, 5, 5};
    int32_t ids[8];
    int64_t n;
    check_ok(cn_tokenizer_encode(ctx, t, "aab xy", ids, 8, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(ids, want, sizeof want);
    cn_tokenizer_close(t);
}

static void test_missing_tokenizer_says_what_to_give(void **state)
{
    (void)state;
    cn_tokenizer *t = NULL;
    assert_int_equal(cn_tokenizer_open(ctx, "tests/unit", &t), CN_EIO);
    assert_non_null(strstr(cn_error(ctx), CN_TOKENIZER_HINT));
    assert_int_equal(cn_tokenizer_open(ctx, "tests/no-such-folder", &t), CN_EIO);
    assert_non_null(strstr(cn_error(ctx), CN_TOKENIZER_HINT));
    assert_int_equal(cn_tokenizer_open(ctx, "tests/unit/test_tokenizer.c", &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), CN_TOKENIZER_HINT));
    assert_null(t);
}

static void test_training_checks_its_arguments(void **state)
{
    (void)state;
    assert_int_equal(cn_bpe_train(ctx, captions, 1, 513, 77, DIR), CN_EINVAL);
    assert_int_equal(cn_bpe_train(ctx, captions, 1, 600, 1, DIR), CN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_transformers),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_frequent_words_are_one_token),
        cmocka_unit_test(test_truncation_and_padding),
        cmocka_unit_test(test_specials_in_text),
        cmocka_unit_test(test_broken_utf8),
        cmocka_unit_test(test_nul_in_text),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_training_is_deterministic),
        cmocka_unit_test(test_clip_list_layout),
        cmocka_unit_test(test_tokenizer_json),
        cmocka_unit_test(test_bad_json_is_refused),
        cmocka_unit_test(test_bad_files_are_refused),
        cmocka_unit_test(test_unknown_bytes),
        cmocka_unit_test(test_missing_tokenizer_says_what_to_give),
        cmocka_unit_test(test_training_checks_its_arguments),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, setup, teardown);
}
