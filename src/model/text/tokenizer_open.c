/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_open.c - vocabularies into a cn_tokenizer: vocab.json with merges.txt, tokenizer.json
 * (tokenizer_json.c), or CLIP's own list.
 *
 * All ways fill t->tokens in the order of ids, then the merges, then finish(). The files are
 * untrusted: ids must be 0 .. n-1, each once, and a merge's two parts and its result must be
 * tokens.
 */
#include "model/text/tokenizer_internal.h"

#include "io/json.h"

#include <jansson.h>
#include <string.h>
#include <zlib.h>

enum { MAX_FILE_BYTES = CN_TOKENIZER_MAX_BYTES };

#define CLIP_FILE "bpe_simple_vocab_16e6.txt.gz"
/* The file lists more merges than CLIP's 49408 tokens have: 512 for bytes, 2 special. */
enum { CLIP_MERGES = 49408 - 512 - 2 };

void cn_tokenizer_close(cn_tokenizer *t)
{
    if (!t) return;
    cn_splitter_close(t->splitter);
    cn_symtab_free(&t->tokens);
    cn_free(t->merges);
    cn_free(t);
}

/* --- merges ----------------------------------------------------------------------------------- */

typedef struct line {
    const char *left, *right;
    size_t left_n, right_n;
} line;

/* Takes "LEFT RIGHT" from [*p, end), past empty lines and comments. 1 = taken, 0 = at the end, -1 =
 * bad line; *number counts lines from 1. */
static int next_merge(const char **p, const char *end, int64_t *number, line *out)
{
    while (*p < end) {
        const char *s = *p, *stop = memchr(s, '\n', (size_t)(end - s));
        *p = stop ? stop + 1 : end;
        if (!stop) stop = end;
        ++*number;
        if (stop > s && stop[-1] == '\r') stop--;
        if (stop == s || (stop - s >= 8 && memcmp(s, "#version", 8) == 0)) continue;
        const char *blank = memchr(s, ' ', (size_t)(stop - s));
        if (!blank || blank == s || blank + 1 == stop) return -1;
        *out = (line){s, blank + 1, (size_t)(blank - s), (size_t)(stop - blank - 1)};
        return memchr(out->right, ' ', out->right_n) ? -1 : 1;
    }
    return 0;
}

static cn_status bad_line(cn_ctx *ctx, int64_t number)
{
    return cn_fail(ctx, CN_EFORMAT, "merges, line %lld: not two parts with a blank between",
                   (long long)number);
}

/* LEFT and RIGHT joined in `joined`, which is emptied first. */
static cn_status join(cn_ctx *ctx, const line *l, cn_str *joined)
{
    joined->len = 0;
    cn_str_add(joined, l->left, l->left_n);
    cn_str_add(joined, l->right, l->right_n);
    return joined->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a vocabulary") : CN_OK;
}

static cn_status add_merge(cn_ctx *ctx, cn_tokenizer *t, const line *l, int64_t number,
                           int32_t rank, cn_str *joined)
{
    CN_TRY(join(ctx, l, joined));
    int32_t left = cn_symtab_find(&t->tokens, l->left, l->left_n);
    int32_t right = cn_symtab_find(&t->tokens, l->right, l->right_n);
    int32_t merged = cn_symtab_find(&t->tokens, joined->data, joined->len);
    if (left < 0 || right < 0 || merged < 0) {
        return cn_fail(ctx, CN_EFORMAT,
                       "merges, line %lld: %.*s is not in the vocabulary; both must come from one "
                       "tokenizer",
                       (long long)number, (int)CN_MIN(joined->len, (size_t)60), joined->data);
    }
    /* A pair given twice keeps its last rank, as the tokenizers crate has it. */
    *merge_slot(t, left, right) = (merge){left, right, rank, merged};
    return CN_OK;
}

/* Needs all tokens. Takes max_merges of the list at most. */
static cn_status load_merges(cn_ctx *ctx, cn_tokenizer *t, const char *text, size_t n,
                             int32_t max_merges)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    for (t->n_merge_slots = 64; t->n_merge_slots < 2 * lines;) t->n_merge_slots *= 2;
    t->merges = cn_alloc_array(ctx, t->n_merge_slots, sizeof *t->merges);
    if (!t->merges) return CN_ENOMEM;
    memset(t->merges, 0xff, t->n_merge_slots * sizeof *t->merges);

    cn_str joined = {0};
    const char *p = text;
    int64_t number = 0;
    cn_status s = CN_OK;
    line l;
    for (int32_t rank = 0; s == CN_OK && rank < max_merges; rank++) {
        int got = next_merge(&p, text + n, &number, &l);
        if (!got) break;
        s = got < 0 ? bad_line(ctx, number) : add_merge(ctx, t, &l, number, rank, &joined);
    }
    cn_str_free(&joined);
    return s;
}

/* --- the parts that follow from the tokens ---------------------------------------------------- */

static cn_status find_special(cn_ctx *ctx, const cn_tokenizer *t, const char *name, int32_t *id)
{
    *id = cn_symtab_find(&t->tokens, name, strlen(name));
    if (*id >= 0) return CN_OK;
    return cn_fail(ctx, CN_EFORMAT,
                   "the special token \"%.60s\" is not among the vocabulary's %d tokens; not a "
                   "vocabulary in CLIP's conventions",
                   name, t->tokens.n);
}

static cn_status finish(cn_ctx *ctx, cn_tokenizer *t, const char *pad_token)
{
    CN_TRY(find_special(ctx, t, CN_CLIP_BOS, &t->bos));
    CN_TRY(find_special(ctx, t, CN_CLIP_EOS, &t->eos));
    CN_TRY(find_special(ctx, t, pad_token ? pad_token : CN_CLIP_EOS, &t->pad));
    cn_byte_symbols symbols;
    cn_byte_symbols_init(&symbols);
    for (int b = 0; b < 256; b++) {
        char name[CN_BYTE_TOKEN_BYTES];
        size_t n = cn_byte_token(&symbols, b, false, name);
        int32_t id = cn_symtab_find(&t->tokens, name, n);
        n = cn_byte_token(&symbols, b, true, name);
        int32_t end_id = cn_symtab_find(&t->tokens, name, n);
        t->byte_id[b] = id >= 0 ? id : t->eos;
        t->byte_end_id[b] = end_id >= 0 ? end_id : t->eos;
    }
    return cn_splitter_open(ctx, &t->splitter);
}

/* --- vocab.json and merges.txt ---------------------------------------------------------------- */

/* by_id[i] = the key whose value is i; all of them must be there. */
static cn_status sort_by_id(cn_ctx *ctx, json_t *vocab, const char **by_id, size_t n)
{
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || (uint64_t)id >= n || by_id[id]) {
            return cn_fail(ctx, CN_EFORMAT,
                           "the vocabulary's \"%.60s\" has no id of its own from 0 to %zu", key,
                           n - 1);
        }
        by_id[id] = key;
    }
    return CN_OK;
}

static cn_status load_vocab(cn_ctx *ctx, cn_tokenizer *t, json_t *vocab)
{
    const size_t n = json_object_size(vocab);
    if (n == 0)
        return cn_fail(ctx, CN_EFORMAT, "the vocabulary is not an object of tokens and their ids");
    const char **by_id = cn_alloc0(ctx, n * sizeof *by_id);
    if (!by_id) return CN_ENOMEM;
    cn_status s = sort_by_id(ctx, vocab, by_id, n);
    for (size_t i = 0; i < n && s == CN_OK; i++) {
        if (cn_symtab_add(ctx, &t->tokens, by_id[i], strlen(by_id[i])) < 0) s = CN_ENOMEM;
    }
    cn_free(by_id);
    return s;
}

cn_status cn_tokenizer_of(cn_ctx *ctx, json_t *vocab, const char *merges, size_t merges_n,
                          const char *pad_token, cn_tokenizer **out)
{
    cn_tokenizer *t = cn_alloc0(ctx, sizeof *t);
    if (!t) return CN_ENOMEM;
    cn_status s = load_vocab(ctx, t, vocab);
    if (s == CN_OK) s = load_merges(ctx, t, merges, merges_n, INT32_MAX);
    if (s == CN_OK) s = finish(ctx, t, pad_token);
    if (s != CN_OK) {
        cn_tokenizer_close(t);
        return s;
    }
    *out = t;
    return CN_OK;
}

cn_status cn_tokenizer_open_memory(cn_ctx *ctx, const char *vocab_json, size_t vocab_n,
                                   const char *merges, size_t merges_n, const char *pad_token,
                                   cn_tokenizer **out)
{
    json_error_t error;
    json_t *vocab = cn_json_parse(vocab_json, vocab_n, 0, &error);
    if (!vocab)
        return cn_fail(ctx, CN_EFORMAT, "vocab.json, line %d: %s", error.line,
                       cn_json_reason(&error));
    const cn_status s = cn_tokenizer_of(ctx, vocab, merges, merges_n, pad_token, out);
    json_decref(vocab);
    return s;
}

cn_status cn_tokenizer_read_pad(cn_ctx *ctx, const char *dir, char **out)
{
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < CN_COUNT(files) && !*out; i++) {
        char path[CN_PATH_BYTES];
        CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, files[i]));
        if (!cn_file_exists(path)) continue;
        char *text;
        size_t n;
        CN_TRY(cn_file_read(ctx, path, MAX_FILE_BYTES, &text, &n));
        json_error_t error;
        json_t *root = cn_json_parse(text, n, 0, &error);
        cn_free(text);
        if (!root) {
            return cn_fail(ctx, CN_EFORMAT, "%s, line %d: %s", path, error.line,
                           cn_json_reason(&error));
        }
        json_t *pad = json_object_get(root, "pad_token");
        if (json_is_object(pad)) pad = json_object_get(pad, "content");
        bool failed = json_is_string(pad) && !(*out = cn_strdup(ctx, json_string_value(pad)));
        json_decref(root);
        if (failed) return CN_ENOMEM;
    }
    return CN_OK;
}

static cn_status open_pair(cn_ctx *ctx, const char *dir, const char *vocab_path,
                           const char *merges_path, cn_tokenizer **out)
{
    char *vocab = NULL, *merges = NULL, *pad = NULL;
    size_t vocab_n, merges_n;
    cn_status s = cn_file_read(ctx, vocab_path, MAX_FILE_BYTES, &vocab, &vocab_n);
    if (s == CN_OK) s = cn_file_read(ctx, merges_path, MAX_FILE_BYTES, &merges, &merges_n);
    if (s == CN_OK) s = cn_tokenizer_read_pad(ctx, dir, &pad);
    if (s == CN_OK) {
        s = cn_tokenizer_open_memory(ctx, vocab, vocab_n, merges, merges_n, pad, out);
        if (s != CN_OK) s = cn_fail_prefix(ctx, s, "%s", dir);
    }
    cn_free(vocab);
    cn_free(merges);
    cn_free(pad);
    return s;
}

/* --- bpe_simple_vocab_16e6.txt.gz ------------------------------------------------------------- */

/* gzread passes files through that aren't packed. */
static cn_status read_gz(cn_ctx *ctx, const char *path, cn_str *out)
{
    int fd = -1;
    CN_TRY(cn_file_open(ctx, path, &fd, NULL));
    gzFile f = gzdopen(fd, "rb");
    if (!f) close(fd);
    if (!f) return cn_fail(ctx, CN_EIO, "%s: can't be opened; " CN_TOKENIZER_HINT, path);
    char block[16384];
    int got;
    while ((got = gzread(f, block, sizeof block)) > 0 && out->len <= MAX_FILE_BYTES)
        cn_str_add(out, block, (size_t)got);
    int error = Z_OK;
    const char *why = gzerror(f, &error);
    cn_status s = CN_OK;
    if (got < 0 || error != Z_OK) {
        s = cn_fail(ctx, CN_EFORMAT, "%s: %s", path, *why ? why : "damaged gzip file");
    } else if (out->failed) {
        s = cn_fail(ctx, CN_ENOMEM, "no memory for %s", path);
    } else if (out->len > MAX_FILE_BYTES) {
        s = cn_fail(ctx, CN_EFORMAT, "%s: unpacks to more than %d bytes; not CLIP's list", path,
                    MAX_FILE_BYTES);
    }
    gzclose(f);
    return s;
}

/* Ids in CLIP's order: bytes, bytes at a word's end, merges, special tokens. */
static cn_status tokens_of_list(cn_ctx *ctx, cn_tokenizer *t, const char *text, size_t n)
{
    CN_TRY(cn_clip_add_bytes(ctx, &t->tokens));
    cn_str name = {0};
    cn_status s = CN_OK;
    const char *p = text;
    int64_t number = 0;
    line l;
    for (int32_t rank = 0; s == CN_OK && rank < CLIP_MERGES; rank++) {
        int got = next_merge(&p, text + n, &number, &l);
        if (!got) break;
        s = got < 0 ? bad_line(ctx, number) : join(ctx, &l, &name);
        if (s == CN_OK && cn_symtab_add(ctx, &t->tokens, name.data, name.len) < 0) s = CN_ENOMEM;
    }
    cn_str_free(&name);
    CN_TRY(s);
    return cn_clip_add_specials(ctx, &t->tokens);
}

static cn_status open_list(cn_ctx *ctx, const char *path, cn_tokenizer **out)
{
    cn_str text = {0};
    const char *merges;
    cn_status s = CN_ENOMEM;
    cn_tokenizer *t = cn_alloc0(ctx, sizeof *t);
    if (!t) goto fail;
    if ((s = read_gz(ctx, path, &text)) != CN_OK) goto fail;
    merges = text.len ? memchr(text.data, '\n', text.len) : NULL;
    if (!merges || !memmem(text.data, (size_t)(merges - text.data), "#version", 8)) {
        s = cn_fail(ctx, CN_EFORMAT,
                    "%s: the first line has no \"#version\", so this is not CLIP's list of "
                    "merges; " CN_TOKENIZER_HINT,
                    path);
        goto fail;
    }
    s = tokens_of_list(ctx, t, merges, text.len - (size_t)(merges - text.data));
    if (s == CN_OK) {
        s = load_merges(ctx, t, merges, text.len - (size_t)(merges - text.data), CLIP_MERGES);
    }
    if (s == CN_OK) s = finish(ctx, t, NULL);
    if (s != CN_OK) {
        s = cn_fail_prefix(ctx, s, "%s", path);
        goto fail;
    }
    cn_str_free(&text);
    *out = t;
    return CN_OK;
fail:
    cn_str_free(&text);
    cn_tokenizer_close(t);
    return s;
}

cn_status cn_tokenizer_open(cn_ctx *ctx, const char *path, cn_tokenizer **out)
{
    if (!cn_dir_exists(path)) {
        if (cn_file_exists(path))
            return cn_tokenizer_is_json(path) ? cn_tokenizer_open_json(ctx, path, out)
                                              : open_list(ctx, path, out);
        return cn_fail(ctx, CN_EIO, "%s: no tokenizer there; " CN_TOKENIZER_HINT, path);
    }
    char vocab[CN_PATH_BYTES], merges[CN_PATH_BYTES], list[CN_PATH_BYTES], json[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, vocab, sizeof vocab, "%s/vocab.json", path));
    CN_TRY(cn_format(ctx, merges, sizeof merges, "%s/merges.txt", path));
    CN_TRY(cn_format(ctx, list, sizeof list, "%s/" CLIP_FILE, path));
    if (cn_file_exists(vocab) && cn_file_exists(merges)) {
        return open_pair(ctx, path, vocab, merges, out);
    }
    CN_TRY(cn_format(ctx, json, sizeof json, "%s/" CN_TOKENIZER_JSON, path));
    if (cn_file_exists(json)) return cn_tokenizer_open_json(ctx, json, out);
    if (cn_file_exists(list)) return open_list(ctx, list, out);
    return cn_fail(ctx, CN_EIO, "%s: no tokenizer in this folder; " CN_TOKENIZER_HINT, path);
}
