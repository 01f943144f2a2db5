/* SPDX-License-Identifier: Apache-2.0 */
/* torch's zip checkpoints: archives built here by hand, hostile ones, and real files where they
 * are. */
#include "io/tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    return ctx ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return 0;
}

/* --- a zip file of stored entries ------------------------------------------------------------- */

typedef struct zip {
    cn_str body, dir;
    int count;
} zip;

static void le(cn_str *s, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) cn_str_add(s, (const char[]){(char)(i < 8 ? v >> (8 * i) : 0)}, 1);
}

/* claimed: the size that the directory gives; method 0 = stored. */
static void zip_add(zip *z, const char *name, const void *data, size_t n, size_t claimed,
                    int method)
{
    size_t at = z->body.len, len = strlen(name);
    cn_str_add(&z->body, "PK\3\4", 4);
    for (int i = 0; i < 22; i++) le(&z->body, 0, 1);
    le(&z->body, len, 2);
    le(&z->body, 5, 2); /* an extra field, as torch pads with */
    cn_str_adds(&z->body, name);
    cn_str_add(&z->body, "FB\1\0Z", 5);
    cn_str_add(&z->body, data, n);
    cn_str_add(&z->dir, "PK\1\2", 4);
    le(&z->dir, 0, 6);
    le(&z->dir, (uint64_t)method, 2);
    le(&z->dir, 0, 8);
    le(&z->dir, claimed, 4);
    le(&z->dir, claimed, 4);
    le(&z->dir, len, 2);
    le(&z->dir, 0, 12);
    le(&z->dir, at, 4);
    cn_str_adds(&z->dir, name);
    z->count++;
}

static void zip_end(zip *z)
{
    size_t at = z->body.len;
    cn_str_add(&z->body, z->dir.data, z->dir.len);
    cn_str_add(&z->body, "PK\5\6", 4);
    le(&z->body, 0, 4);
    le(&z->body, (uint64_t)z->count, 2);
    le(&z->body, (uint64_t)z->count, 2);
    le(&z->body, z->dir.len, 4);
    le(&z->body, at, 4);
    le(&z->body, 0, 2);
}

static void zip_free(zip *z)
{
    cn_str_free(&z->body);
    cn_str_free(&z->dir);
}

/* --- pickles ---------------------------------------------------------------------------------- */

#define ADD(s, text) cn_str_add(s, text, sizeof(text) - 1)

static void p_str(cn_str *p, const char *s)
{
    ADD(p, "X");
    le(p, strlen(s), 4);
    cn_str_adds(p, s);
}

static void p_int(cn_str *p, int64_t i)
{
    ADD(p, "\x8a\x08");
    le(p, (uint64_t)i, 8);
}

static void p_ints(cn_str *p, const int64_t *v, int n)
{
    ADD(p, "(");
    for (int i = 0; i < n; i++) p_int(p, v[i]);
    ADD(p, "t");
}

typedef struct view {
    const char *storage, *key;
    int64_t elements, offset;
    int ndim;
    int64_t shape[5], stride[5];
} view;

static void p_tensor(cn_str *p, const view *v)
{
    ADD(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    p_str(p, "storage");
    cn_str_addf(p, "ctorch\n%s\n", v->storage);
    p_str(p, v->key);
    p_str(p, "cpu");
    p_int(p, v->elements);
    ADD(p, "tQ");
    p_int(p, v->offset);
    p_ints(p, v->shape, v->ndim);
    p_ints(p, v->stride, v->ndim);
    ADD(p, "\x89"
           "ccollections\nOrderedDict\n)RtR");
}

static const float six[6] = {1, 2, 3, 4, 5, 6};
static const uint16_t halves[2] = {0x3c00, 0xc000};

static cn_status open_pickle(const cn_str *p, zip *z, cn_tensors **t)
{
    *z = (zip){0};
    zip_add(z, "archive/data.pkl", p->data, p->len, p->len, 0);
    zip_add(z, "archive/byteorder", "little", 6, 6, 0);
    zip_add(z, "archive/data/0", six, sizeof six, sizeof six, 0);
    zip_add(z, "archive/data/1", halves, sizeof halves, sizeof halves, 0);
    zip_add(z, "archive/data/packed", six, 8, 8, 8);
    zip_add(z, "archive/version", "3\n", 2, 2, 0);
    zip_end(z);
    return cn_tensors_open_memory(ctx, z->body.data, z->body.len, t);
}

static void expect_refused(cn_str *p, const char *message)
{
    zip z;
    cn_tensors *t = NULL;
    cn_status s = open_pickle(p, &z, &t);
    if (s == CN_OK || !strstr(cn_error(ctx), message))
        fail_msg("status %s, '%s': expected '%s'", cn_status_name(s), cn_error(ctx), message);
    zip_free(&z);
    cn_str_free(p);
}

static void expect_tensor(const cn_tensors *t, const char *name, int n, const float *values)
{
    float out[8];
    const cn_tensor_info *info = cn_tensors_find(t, name);
    if (!info) fail_msg("no tensor %s", name);
    assert_int_equal(info->elements, n);
    assert_int_equal(cn_tensors_read(ctx, t, info, out), CN_OK);
    assert_memory_equal(out, values, (size_t)n * sizeof *out);
}

static void views_of_one_storage(void **state)
{
    (void)state;
    cn_str p = {0};
    zip z;
    cn_tensors *t = NULL;
    view whole = {"FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}};
    view turned = {"FloatStorage", "0", 6, 0, 2, {3, 2}, {1, 3}};
    view part = {"FloatStorage", "0", 6, 1, 1, {2}, {3}};
    view scalar = {"HalfStorage", "1", 2, 1, 0, {0}, {0}};
    view repeated = {"HalfStorage", "1", 2, 0, 2, {3, 2}, {0, 1}};
    view five = {"FloatStorage", "0", 6, 0, 5, {1, 1, 1, 2, 3}, {6, 6, 6, 3, 1}};
    view odd = {"ComplexFloatStorage", "0", 3, 0, 1, {3}, {1}};
    ADD(&p, "\x80\x02}(");
    p_str(&p, "whole"), p_tensor(&p, &whole);
    p_str(&p, "turned"), p_tensor(&p, &turned);
    p_str(&p, "part"), p_tensor(&p, &part);
    p_str(&p, "scalar"), p_tensor(&p, &scalar);
    p_str(&p, "repeated"), p_tensor(&p, &repeated);
    p_str(&p, "five"), p_tensor(&p, &five);
    p_str(&p, "odd"), p_tensor(&p, &odd);
    ADD(&p, "u.");
    assert_int_equal(open_pickle(&p, &z, &t), CN_OK);
    assert_string_equal(cn_tensors_format(t), "torch zip");
    assert_int_equal(cn_tensors_count(t), 5);
    assert_int_equal(cn_tensors_skipped(t), 2);
    expect_tensor(t, "whole", 6, six);
    expect_tensor(t, "turned", 6, (const float[]){1, 4, 2, 5, 3, 6});
    expect_tensor(t, "part", 2, (const float[]){2, 5});
    expect_tensor(t, "scalar", 1, (const float[]){-2});
    expect_tensor(t, "repeated", 6, (const float[]){1, -2, 1, -2, 1, -2});
    assert_true(cn_tensor_contiguous(cn_tensors_find(t, "whole")));
    assert_false(cn_tensor_contiguous(cn_tensors_find(t, "turned")));
    assert_null(cn_tensors_metadata(t, "format"));
    cn_tensors_close(t);
    zip_free(&z);
    cn_str_free(&p);
}

/* What a training framework leaves around the state_dict is passed over. */
static void training_checkpoint(void **state)
{
    (void)state;
    cn_str p = {0};
    zip z;
    cn_tensors *t = NULL;
    view w = {"FloatStorage", "0", 6, 0, 1, {6}, {1}};
    ADD(&p, "\x80\x02}(");
    p_str(&p, "epoch"), ADD(&p, "K\x05");
    p_str(&p, "seed"), ADD(&p, "\x8a\x09\1\2\3\4\5\6\7\x08\x09");
    p_str(&p, "loss"), ADD(&p, "G?\xf0\0\0\0\0\0\0");
    p_str(&p, "callbacks");
    ADD(&p, "}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n}(");
    p_str(&p, "best"), ADD(&p, "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n");
    p_str(&p, "f8"), ADD(&p, "\x85R");
    ADD(&p, "(K\x03N");
    ADD(&p, "tbc_codecs\nencode\n");
    p_str(&p, "xx"), p_str(&p, "latin1");
    ADD(&p, "\x86R\x86R");
    ADD(&p, "us");
    p_str(&p, "state_dict"), ADD(&p, "ccollections\nOrderedDict\n)R(");
    p_str(&p, "a.weight"), p_tensor(&p, &w);
    ADD(&p, "u}");
    p_str(&p, "_metadata"), ADD(&p, "}sb");
    p_str(&p, "optimizer_states"), ADD(&p, "](}(");
    p_str(&p, "state"), ADD(&p, "}K\x07}(");
    p_str(&p, "exp_avg"), ADD(&p, "ctorch._utils\n_rebuild_parameter\n("), p_tensor(&p, &w);
    ADD(&p, "\x88NtRus");
    p_str(&p, "lr"), ADD(&p, "Nue");
    ADD(&p, "u.");
    cn_status s = open_pickle(&p, &z, &t);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(cn_tensors_count(t), 2);
    expect_tensor(t, "a.weight", 6, six);
    expect_tensor(t, "optimizer_states.0.state.7.exp_avg", 6, six);
    cn_tensors_close(t);
    zip_free(&z);
    cn_str_free(&p);
}

/* As old textual inversion files hold their vectors. */
static void a_dict_of_parameters(void **state)
{
    (void)state;
    cn_str p = {0};
    zip z;
    cn_tensors *t = NULL;
    view w = {"FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}};
    ADD(&p, "\x80\x02}");
    p_str(&p, "string_to_param");
    ADD(&p, "ctorch.nn.modules.container\nParameterDict\n)\x81}(");
    p_str(&p, "training"), ADD(&p, "\x88");
    p_str(&p, "_parameters"), ADD(&p, "}(");
    p_str(&p, "*"), ADD(&p, "ctorch._utils\n_rebuild_parameter\n("), p_tensor(&p, &w);
    ADD(&p, "\x88NtRuubs.");
    cn_status s = open_pickle(&p, &z, &t);
    if (s != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(cn_tensors_count(t), 1);
    expect_tensor(t, "string_to_param._parameters.*", 6, six);
    cn_tensors_close(t);
    zip_free(&z);
    cn_str_free(&p);
}

/* A pickle in text, which may hold zero bytes, and its length. */
#define PICKLE(text) text, sizeof(text) - 1

static void calls_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *pickle;
        size_t n;
        const char *message;
    } cases[] = {
        {PICKLE("cos\nsystem\n(S'id'\ntR."), "pickle calls os.system"},
        {PICKLE("(S'id'\nios\nsystem\n."), "pickle calls os.system"},
        {PICKLE("(cos\nsystem\nS'id'\no."), "pickle calls os.system"},
        {PICKLE("\x80\x02"
                "cposix\nsystem\nX\2\0\0\0id\x85R."),
         "pickle calls posix.system"},
        {PICKLE("\x80\x04\x8c\x08"
                "builtins\x8c\x04"
                "eval\x93\x8c\x01"
                "1\x85R."),
         "calls builtins.eval"},
        {PICKLE("\x80\x02"
                "c__torch__\nNet\n)\x81}b."),
         "pickle calls __torch__.Net"},
        {PICKLE("ctorch.storage\n_load_from_bytes\nC\0\x85R."), "torch.storage._load_from_bytes"},
        {PICKLE("cos\nsystem\n}b."), "pickle calls os.system"},
        {PICKLE("c_codecs\nencode\n)R)R."), "isn't a function"},
        {PICKLE("c\x1b[31m\nx\n)R."), "?[31m.x"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_str p = {0};
        cn_str_add(&p, cases[i].pickle, cases[i].n);
        expect_refused(&p, cases[i].message);
    }
}

static void damaged_pickles(void **state)
{
    (void)state;
    static const char *const pickles[] = {
        "",     "}",      ".",    "}u.",  "0.", "(",   "t.",   "h\1.",  "NNs.", "Xabcdxyz",
        "\xff", "(NN1(t", "Rabc", "N)R.", "Q",  "NQ.", "(Nd.", "}(Nu.", "I123", "p1\n"};
    for (size_t i = 0; i < CN_COUNT(pickles); i++) {
        cn_str p = {0};
        cn_str_adds(&p, pickles[i]);
        expect_refused(&p, "");
    }
}

static void tensors_that_lie(void **state)
{
    (void)state;
    static const struct {
        view v;
        const char *message;
    } cases[] = {
        {{"FloatStorage", "0", 6, 0, 1, {7}, {1}}, "beyond its storage"},
        {{"FloatStorage", "0", 6, 1, 1, {6}, {1}}, "beyond its storage"},
        {{"FloatStorage", "0", 6, 0, 2, {2, 3}, {4, 1}}, "beyond its storage"},
        {{"FloatStorage", "0", 6, INT64_MAX, 1, {2}, {1}}, "beyond its storage"},
        {{"FloatStorage", "0", 6, 0, 1, {3}, {INT64_MAX}}, "beyond its storage"},
        {{"FloatStorage", "0", 6, -1, 1, {1}, {1}}, "is wrong"},
        {{"FloatStorage", "0", 6, 0, 1, {-1}, {1}}, "is wrong"},
        {{"FloatStorage", "0", 6, 0, 1, {1}, {-1}}, "is wrong"},
        {{"FloatStorage", "0", 7, 0, 1, {7}, {1}}, "has 24 bytes"},
        {{"FloatStorage", "0", INT64_MAX, 0, 1, {INT64_MAX}, {1}}, "too large"},
        {{"FloatStorage", "0", -6, 0, 1, {6}, {1}}, "isn't a storage"},
        {{"DoubleStorage", "0", 6, 0, 1, {6}, {1}}, "has 24 bytes"},
        {{"FloatStorage", "9", 6, 0, 1, {6}, {1}}, "data/9 is missing"},
        {{"FloatStorage", "../0", 6, 0, 1, {6}, {1}}, "is missing"},
        {{"FloatStorage", "packed", 2, 0, 1, {2}, {1}}, "compressed"},
        {{"FloatStorage", "0", 6, 0, 1, {1LL << 40}, {0}}, "over a storage of 6"},
        {{"FloatStorage", "0", 6, 0, 2, {1LL << 40, 1LL << 40}, {0, 0}}, "too large"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_str p = {0};
        ADD(&p, "\x80\x02}");
        p_str(&p, "w"), p_tensor(&p, &cases[i].v);
        ADD(&p, "s.");
        expect_refused(&p, cases[i].message);
    }
    cn_str p = {0};
    view w = {"FloatStorage", "0", 6, 0, 1, {6}, {1}};
    ADD(&p, "}(");
    p_str(&p, "w"), p_tensor(&p, &w);
    p_str(&p, "w"), p_tensor(&p, &w);
    ADD(&p, "u.");
    expect_refused(&p, "two tensors are named w");
}

static void bombs(void **state)
{
    (void)state;
    cn_str deep = {0}, wide = {0}, self = {0}, memo = {0}, big = {0};
    for (int i = 0; i < 100000; i++) ADD(&deep, "](");
    for (int i = 0; i < 100000; i++) ADD(&deep, "e");
    ADD(&deep, ".");
    expect_refused(&deep, "");
    deep = (cn_str){0};
    for (int i = 0; i < 100000; i++) ADD(&deep, "]");
    for (int i = 0; i < 99999; i++) ADD(&deep, "a");
    ADD(&deep, ".");
    expect_refused(&deep, "nested");
    ADD(&wide, "]q\1"); /* thirty lists, each holding the one before ten times */
    for (int i = 0; i < 30; i++) ADD(&wide, "](h\1h\1h\1h\1h\1h\1h\1h\1h\1h\1eq\1");
    ADD(&wide, ".");
    expect_refused(&wide, "nested");
    ADD(&self, "]q\1h\1a.");
    expect_refused(&self, "nested");
    ADD(&memo, "]r\xff\xff\xff\x7f.");
    expect_refused(&memo, "memo");
    ADD(&big, "X\xff\xff\xff\xffx.");
    expect_refused(&big, "ends in the middle");
}

static void zips_that_lie(void **state)
{
    (void)state;
    static const char pkl[] = "\x80\x02}.";
    cn_tensors *t = NULL;
    zip z = {0};
    zip_add(&z, "a/data.pkl", pkl, 4, 400000, 0);
    zip_end(&z);
    assert_int_equal(cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "more than the file holds"));
    zip_free(&z);

    z = (zip){0};
    zip_add(&z, "a/data.pkl", pkl, 4, 4, 0);
    zip_end(&z);
    assert_int_equal(cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t), CN_OK);
    assert_int_equal(cn_tensors_count(t), 0);
    cn_tensors_close(t);
    for (size_t n = 0; n < z.body.len; n++) /* every truncation, every single damaged byte */
        assert_int_not_equal(cn_tensors_open_memory(ctx, z.body.data, n, &t), CN_OK);
    for (size_t i = 0; i < z.body.len; i++) {
        z.body.data[i] = (char)~z.body.data[i];
        if (cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t) == CN_OK) cn_tensors_close(t);
        z.body.data[i] = (char)~z.body.data[i];
    }
    zip_free(&z);

    z = (zip){0};
    zip_add(&z, "a/data.pkl", pkl, 4, 4, 0);
    zip_add(&z, "a/data.pkl", pkl, 4, 4, 0);
    zip_end(&z);
    assert_int_equal(cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "two entries"));
    zip_free(&z);

    z = (zip){0};
    zip_add(&z, "a/readme.txt", pkl, 4, 4, 0);
    zip_end(&z);
    assert_int_equal(cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "without data.pkl"));
    zip_free(&z);

    z = (zip){0};
    zip_add(&z, "a/data.pkl", pkl, 4, 4, 0);
    zip_add(&z, "a/byteorder", "big", 3, 3, 0);
    zip_end(&z);
    assert_int_equal(cn_tensors_open_memory(ctx, z.body.data, z.body.len, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "big-endian"));
    zip_free(&z);
}

/* --- torch before 1.6 ------------------------------------------------------------------------- */

/* {'epoch': 3, 'state_dict': {'a.weight': [[0, .5, 1], [1.5, 2, 2.5]], 'a.transposed': its
 * transpose over the same storage, 'b.bias': half precision, 'n': 7}}, by
 * torch.save(_use_new_zipfile_serialization=False). */
static void files_of_before_1_6(void **state)
{
    (void)state;
    static const float weight[6] = {0, 0.5f, 1, 1.5f, 2, 2.5f},
                       transposed[6] = {0, 1.5f, 0.5f, 2, 1, 2.5f}, bias[3] = {1.5f, -2, 0.25f};
    float x[6];
    cn_tensors *t = NULL;
    char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(cn_file_read(ctx, "tests/golden/torch-1.5.pth", 1 << 16, &bytes, &n), CN_OK);
    assert_int_equal(cn_tensors_open_memory(ctx, bytes, n, &t), CN_OK);
    assert_int_equal(cn_tensors_count(t), 4);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "a.weight"), x), CN_OK);
    assert_memory_equal(x, weight, sizeof weight);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "a.transposed"), x), CN_OK);
    assert_memory_equal(x, transposed, sizeof transposed);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "b.bias"), x), CN_OK);
    assert_memory_equal(x, bias, sizeof bias);
    assert_int_equal(cn_tensors_find(t, "n")->dtype, CN_I64);
    cn_tensors_close(t);
    for (size_t k = 0; k < n; k++) /* every truncation, every single damaged byte */
        assert_int_not_equal(cn_tensors_open_memory(ctx, bytes, k, &t), CN_OK);
    for (size_t k = 0; k < n; k++) {
        bytes[k] = (char)~bytes[k];
        if (cn_tensors_open_memory(ctx, bytes, n, &t) == CN_OK) cn_tensors_close(t);
        bytes[k] = (char)~bytes[k];
    }
    cn_free(bytes);
}

/* --- real files ------------------------------------------------------------------------------- */

static bool shared_path(char out[512], const char *name)
{
    const char *root = getenv("CN_SHARED");
    snprintf(out, 512, "%s/%s", root ? root : "../shared", name);
    if (cn_file_exists(out)) return true;
    print_message("skipped: %s is not here (CN_SHARED names its folder)\n", name);
    return false;
}

/* The same network, saved by torch and as safetensors. Names may differ by a prefix. */
static void compare_files(const char *torch_name, const char *safe_name, const char *prefix)
{
    char torch_path[512], safe_path[512], name[512];
    cn_tensors *a = NULL, *b = NULL;
    if (!shared_path(torch_path, torch_name) || !shared_path(safe_path, safe_name)) skip();
    if (cn_tensors_open(ctx, torch_path, &a) != CN_OK) fail_msg("%s", cn_error(ctx));
    if (cn_tensors_open(ctx, safe_path, &b) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_true(cn_tensors_count(b) > 0);
    for (int64_t i = 0; i < cn_tensors_count(b); i++) {
        const cn_tensor_info *s = cn_tensors_at(b, i);
        snprintf(name, sizeof name, "%s%s", prefix, s->name);
        const cn_tensor_info *p = cn_tensors_find(a, name);
        if (!p) fail_msg("%s is missing in %s", name, torch_name);
        assert_int_equal(p->elements, s->elements);
        size_t bytes = (size_t)s->elements * sizeof(float);
        float *x = test_malloc(bytes + 1), *y = test_malloc(bytes + 1);
        assert_int_equal(cn_tensors_read(ctx, a, p, x), CN_OK);
        assert_int_equal(cn_tensors_read(ctx, b, s, y), CN_OK);
        assert_memory_equal(x, y, bytes);
        test_free(x);
        test_free(y);
    }
    cn_tensors_close(a);
    cn_tensors_close(b);
}

static void mlsd_matches(void **state)
{
    (void)state;
    compare_files("annotators/mlsd/mlsd_tiny_512_fp32.pth",
                  "annotators/mlsd/mlsd_tiny_512_fp32.safetensors", "");
}

static void pidinet_matches(void **state)
{
    (void)state; /* saved from a DataParallel network */
    compare_files("annotators/pidinet/table5_pidinet.pth",
                  "annotators/pidinet/table5_pidinet.safetensors", "module.");
}

static void single_files_open(void **state)
{
    (void)state;
    static const struct {
        const char *path, *tensor;
        int64_t count;
    } cases[] = {
        {"reference/pipelines/model.ckpt", "model.diffusion_model.time_embed.0.weight", 0},
        {"reference/pipelines/controlnet_b.pth", NULL, 338},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char path[512];
        cn_tensors *t = NULL;
        if (!shared_path(path, cases[i].path)) skip();
        if (cn_tensors_open(ctx, path, &t) != CN_OK) fail_msg("%s", cn_error(ctx));
        if (cases[i].tensor) assert_non_null(cn_tensors_find(t, cases[i].tensor));
        if (cases[i].count) assert_int_equal(cn_tensors_count(t), cases[i].count);
        assert_int_equal(cn_tensors_skipped(t), 0);
        cn_tensors_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_of_one_storage),
        cmocka_unit_test(training_checkpoint),
        cmocka_unit_test(a_dict_of_parameters),
        cmocka_unit_test(calls_are_refused_by_name),
        cmocka_unit_test(damaged_pickles),
        cmocka_unit_test(tensors_that_lie),
        cmocka_unit_test(bombs),
        cmocka_unit_test(files_of_before_1_6),
        cmocka_unit_test(zips_that_lie),
        cmocka_unit_test(mlsd_matches),
        cmocka_unit_test(pidinet_matches),
        cmocka_unit_test(single_files_open),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
