/* SPDX-License-Identifier: Apache-2.0 */
/* test_server.c - the server's parts that read what strangers send: base64, hosts, origins, keys,
 * paths, JSON; and SHA-256. Expected values are from RFC 4648 and FIPS 180-4's examples. */
#include <stdio.h>

#ifdef CN_WITHOUT_SERVER
int main(void)
{
    puts("SKIP  built without libmicrohttpd");
    puts("0 passed, 0 failed, 1 skipped");
    return 0;
}
#else

#include "../support/unit/unit.h"

#include "server/base64.h"
#include "server/guard.h"
#include "server/http.h"
#include "server/jobs.h"
#include "server/models.h"
#include "server/multipart.h"
#include "server/sha256.h"
#include "server/webui.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_base64(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        size_t n = 0;
        char *text = base64_encode(cases[i][0], strlen(cases[i][0]), &n);
        assert_string_equal(text, cases[i][1]);
        assert_int_equal(n, strlen(text));
        char *back = base64_decode(text, n, &n);
        assert_string_equal(back, cases[i][0]);
        free(text);
        free(back);
        back = base64_decode(cases[i][1], strcspn(cases[i][1], "="), &n); /* no padding */
        assert_string_equal(back, cases[i][0]);
        free(back);
    }
    static const char *const bad[] = {"Z", "Zm9vY", "Zg=a", "Zg===", "Zm 9v", "Zm9v!"};
    size_t n = 0;
    for (size_t i = 0; i < CN_COUNT(bad); i++)
        assert_null(base64_decode(bad[i], strlen(bad[i]), &n));
    char *url = base64_decode("-_-_\r\n", 6, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(url, "\xfb\xff\xbf", 3);
    free(url);
}

static void assert_hash(const char *text, size_t n, const char *want)
{
    uint8_t hash[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    sha256(text, n, hash);
    for (int i = 0; i < SHA256_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(hex, want);
}

static void test_sha256(void **state)
{
    (void)state;
    assert_hash("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_hash("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    assert_hash(a, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(a);
}

static void test_hosts(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost", "LOCALHOST:7860", "127.0.0.1", "127.0.0.1:7860",
                                       "127.1.2.3", "[::1]",          "[::1]:80"};
    static const char *const bad[] = {"",
                                      "evil.example",
                                      "127.0.0.1.evil.example",
                                      "localhost.evil.example",
                                      "127.evil",
                                      "128.0.0.1",
                                      "localhost:80:80",
                                      "localhost:",
                                      "localhost:x",
                                      "[::1",
                                      "[::2]",
                                      "[::1]x",
                                      "127.0.0.1@evil"};
    for (size_t i = 0; i < CN_COUNT(good); i++)
        if (!guard_is_loopback_host(good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < CN_COUNT(bad); i++)
        if (guard_is_loopback_host(bad[i])) fail_msg("%s", bad[i]);
    assert_false(guard_is_loopback_host(NULL));
}

static void test_origins(void **state)
{
    (void)state;
    assert_true(guard_allows_origin(NULL, "localhost:1", NULL));
    assert_true(guard_allows_origin("http://localhost:1", "localhost:1", NULL));
    assert_true(guard_allows_origin("https://draw.example", "draw.example", NULL));
    assert_false(guard_allows_origin("http://localhost:2", "localhost:1", NULL));
    assert_false(guard_allows_origin("null", "localhost:1", NULL));
    assert_false(guard_allows_origin("http://evil.example", NULL, NULL));
    assert_true(guard_allows_origin("https://app.example", "localhost", "https://app.example"));
    assert_false(guard_allows_origin("https://app.example.evil", "x", "https://app.example"));
}

static void test_keys(void **state)
{
    (void)state;
    assert_true(guard_knows_key("k", "Bearer k", NULL));
    assert_true(guard_knows_key("k", NULL, "k"));
    assert_true(guard_knows_key("k", "basic Omtr", "k"));
    assert_true(guard_knows_key("k", "Basic dTpr", NULL)); /* u:k */
    assert_false(guard_knows_key("k", "Bearer ", NULL));
    assert_false(guard_knows_key("k", "Bearer kk", NULL));
    assert_false(guard_knows_key("k", "k", NULL));
    assert_false(guard_knows_key("k", "Basic dQ==", NULL)); /* u */
    assert_false(guard_knows_key("k", "Basic !", NULL));
    assert_false(guard_knows_key("k", NULL, NULL));
}

static void nothing(const http_request *r, http_reply *reply)
{
    (void)r, (void)reply;
}

static void test_routes(void **state)
{
    (void)state;
    static const http_route table[] = {{"GET", "/a/{}", nothing, 0, "", NULL, NULL},
                                       {"DELETE", "/a/{id}", nothing, 0, "", NULL, NULL},
                                       {"GET", "/a/{id}/b/{n}", nothing, 0, "", NULL, NULL},
                                       {0}};
    const http_route *const tables[] = {table, NULL};
    const char *words[HTTP_WORDS];
    char room[16], allow[64];
#define FIND(method, path) \
    http_find_route(tables, method, path, words, room, sizeof room, allow, sizeof allow)
    assert_ptr_equal(FIND("GET", "/a/x"), &table[0]);
    assert_string_equal(words[0], "x");
    assert_ptr_equal(FIND("HEAD", "/a/x"), &table[0]);
    assert_ptr_equal(FIND("DELETE", "/a/x"), &table[1]);
    assert_ptr_equal(FIND("GET", "/a/x/b/7"), &table[2]);
    assert_string_equal(words[0], "x");
    assert_string_equal(words[1], "7");
    assert_null(FIND("POST", "/a/x"));
    assert_string_equal(allow, "GET, DELETE");
    assert_null(FIND("GET", "/a/"));
    assert_null(FIND("GET", "/a"));
    assert_null(FIND("GET", ""));
    assert_null(FIND("GET", "/a/x/"));
    assert_string_equal(allow, "");
    assert_null(FIND("GET", "/a/0123456789abcdef")); /* no room for the word */
}

static void test_json(void **state)
{
    (void)state;
    char why[256], deep[128] = "{\"a\":";
    json_t *value = http_parse_json("{\"a\":\"[[[[\\\"\"}", 14, why, sizeof why);
    assert_non_null(value);
    json_decref(value);
    for (int i = 0; i < 40; i++) memcpy(deep + 5 + i, "[", 2);
    assert_null(http_parse_json(deep, strlen(deep), why, sizeof why));
    assert_non_null(strstr(why, "deeper"));
    assert_null(http_parse_json("[]", 2, why, sizeof why));
    assert_null(http_parse_json("{} x", 4, why, sizeof why));
    assert_null(http_parse_json("{\"a\":\"\\u0000\"}", 14, why, sizeof why));
    assert_null(http_parse_json("\"", 1, why, sizeof why));
}

static void test_names(void **state)
{
    (void)state;
    char name[32];
    models_name_of("/a/b/canny.safetensors", name, sizeof name);
    assert_string_equal(name, "canny");
    models_name_of("/a/b/folder//", name, sizeof name);
    assert_string_equal(name, "folder");
    models_name_of("x.PTH", name, sizeof name);
    assert_string_equal(name, "x");
}

static void test_multipart(void **state)
{
    (void)state;
    static const char type[] = "multipart/form-data; boundary=AaB03x";
    static const char body[] =
        "--AaB03x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nJoe\r\n"
        "--AaB03x\r\nContent-Disposition: form-data; filename=\"x\"; "
        "name=\"b\"\r\n\r\n\r\n--AaB03x--\r\n";
    multipart_part parts[4];
    assert_int_equal(multipart_parse(type, body, sizeof body - 1, parts, 4), 2);
    assert_string_equal(parts[0].name, "a");
    assert_int_equal(parts[0].bytes, 3);
    assert_memory_equal(parts[0].data, "Joe", 3);
    assert_false(parts[0].is_file);
    assert_string_equal(parts[1].name, "b");
    assert_int_equal(parts[1].bytes, 0);
    assert_true(parts[1].is_file);
    assert_int_equal(multipart_parse(type, body, sizeof body - 1, parts, 1), 1);
    /* cut anywhere it is refused, but for the line's end behind the last mark */
    for (size_t n = 0; n < sizeof body - 3; n++) {
        char *cut = malloc(n + 1); /* so that a sanitizer sees what is read beyond */
        memcpy(cut, body, n);
        assert_int_equal(multipart_parse(type, cut, n, parts, 4), -1);
        free(cut);
    }
    assert_int_equal(multipart_parse(NULL, body, sizeof body - 1, parts, 4), -1);
    assert_int_equal(multipart_parse("text/plain", body, sizeof body - 1, parts, 4), -1);
    assert_int_equal(multipart_parse("multipart/form-data", body, sizeof body - 1, parts, 4), -1);
}

static void assert_field(const json_t *fields, const char *name, const char *want)
{
    assert_string_equal(json_string_value(json_object_get(fields, name)), want);
}

static void test_parameters(void **state)
{
    (void)state;
    json_t *f = webui_parse_parameters("a cube\nSteps: many\nNegative prompt: blue,\ngrey\n"
                                       "Steps: 20, Sampler: DPM++ 2M, Size: 512x512, Model: x, "
                                       "ControlNet 0: \"Module: canny, Model: a, b\", RNG: CPU");
    assert_field(f, "Prompt", "a cube\nSteps: many");
    assert_field(f, "Negative prompt", "blue,\ngrey");
    assert_field(f, "Steps", "20");
    assert_field(f, "Sampler", "DPM++ 2M");
    assert_field(f, "ControlNet 0", "Module: canny, Model: a, b");
    assert_field(f, "RNG", "CPU");
    json_decref(f);
    static const char *const odd[] = {"",
                                      "x",
                                      "Steps: 1",
                                      "Negative prompt: x",
                                      "a\nSteps: 1, \"",
                                      "a\nSteps: 1, B: \"x",
                                      "a\nSteps: 1, B: \"x\\",
                                      "\nSteps: ",
                                      "Steps: 1\nNegative prompt: x"};
    for (size_t i = 0; i < CN_COUNT(odd); i++) {
        f = webui_parse_parameters(odd[i]);
        assert_true(json_is_string(json_object_get(f, "Prompt")));
        json_decref(f);
    }
}

static void test_preprocessors(void **state)
{
    (void)state;
    char text[64], small[8];
    assert_true(webui_preprocessor("canny", 50, -1, text, sizeof text));
    assert_string_equal(text, "canny low=50");
    assert_true(webui_preprocessor("canny", 0, 200.5, text, sizeof text));
    assert_string_equal(text, "canny low=0 high=200.5");
    assert_true(webui_preprocessor("None", 1, 1, text, sizeof text));
    assert_string_equal(text, "none");
    assert_true(
        webui_preprocessor("invert (from white bg & black line)", 64, 64, text, sizeof text));
    assert_string_equal(text, "invert");
    assert_true(webui_preprocessor("inpaint_only", 64, 64, text, sizeof text));
    assert_string_equal(text, "inpaint");
    assert_true(webui_preprocessor("ip-adapter-auto", -1, -1, text, sizeof text));
    assert_string_equal(text, "none");
    assert_false(webui_preprocessor("canny", 100, 200, small, sizeof small));
}

static const job_kind no_kind = {"none", NULL, free};

/* A job that ends at once, with a picture of so many bytes; its id. */
static void end_one(jobs *q, cn_ctx *c, size_t bytes, char id[JOB_ID_BYTES])
{
    const char *why;
    job *j = jobs_add(q, &no_kind, json_object(), NULL, NULL, &why);
    assert_non_null(j);
    memcpy(id, j->id, JOB_ID_BYTES);
    assert_ptr_equal(jobs_take(q, c), j);
    assert_int_equal(job_add_picture(q, j, malloc(bytes), bytes, "x", true), CN_OK);
    jobs_finish(q, j, CN_OK, "");
    jobs_release(q, j);
}

static bool is_kept(jobs *q, const char *id)
{
    job *j = jobs_find(q, id);
    jobs_release(q, j);
    return j != NULL;
}

/* By number, by bytes, and the last one in any case. */
static void test_kept_jobs(void **state)
{
    (void)state;
    cn_ctx *c = cn_ctx_create(1);
    jobs *q = jobs_open(4, 3, 1000, NULL);
    char ids[6][JOB_ID_BYTES];
    for (int i = 0; i < 4; i++) end_one(q, c, 10, ids[i]);
    assert_false(is_kept(q, ids[0]));
    assert_true(is_kept(q, ids[1]) && is_kept(q, ids[3]));
    end_one(q, c, 985, ids[4]);
    assert_false(is_kept(q, ids[2]));
    assert_true(is_kept(q, ids[3]) && is_kept(q, ids[4]));
    end_one(q, c, 5000, ids[5]);
    assert_false(is_kept(q, ids[3]) || is_kept(q, ids[4]));
    assert_true(is_kept(q, ids[5]));
    jobs_close(q);
    cn_ctx_destroy(c);
}

/* --- jobs on disk ----------------------------------------------------------------------------- */

typedef struct found {
    char ids[8][JOB_ID_BYTES], left[8][64];
    json_int_t steps[8];
    int n, n_left;
} found;

static void take(void *user, const char *id, json_t *request)
{
    found *f = user;
    snprintf(f->ids[f->n], JOB_ID_BYTES, "%s", id);
    f->steps[f->n++] = json_integer_value(json_object_get(request, "steps"));
    json_decref(request);
}

static void leave(void *user, const char *file, const char *why)
{
    found *f = user;
    snprintf(f->left[f->n_left++], sizeof *f->left, "%.1s %.50s", file, why);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void id_of(char out[JOB_ID_BYTES], char letter)
{
    memset(out, letter, JOB_ID_BYTES - 1);
    out[JOB_ID_BYTES - 1] = 0;
}

static void path_of(char *out, size_t cap, const char *dir, char letter)
{
    char id[JOB_ID_BYTES];
    id_of(id, letter);
    snprintf(out, cap, "%s/%s.job.json", dir, id);
}

static void write_job(const char *dir, char letter, const char *text)
{
    char path[400];
    path_of(path, sizeof path, dir, letter);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* What isn't a job's file or is one no more is named, stays, and keeps nobody waiting. */
static void test_saved_jobs(void **state)
{
    (void)state;
    static const job_kind kind = {.name = "generate"};
    char dir[300], path[400], why[200];
    found f = {.n = 0};
    const jobs_state_calls calls = {.add = take, .left = leave, .user = &f};
    snprintf(dir, sizeof dir, "%s/state", root);
    assert_int_equal(mkdir(dir, 0777), 0);
    for (int i = 0; i < 2; i++) {
        job j = {.kind = &kind, .order = i, .request = json_pack("{s:i}", "steps", 7 + i)};
        id_of(j.id, i ? 'a' : 'b');
        assert_true(jobs_state_save(dir, &j));
        json_decref(j.request);
    }
    write_job(dir, 'c', "{\"kind\": \"generate\", \"request\": {\"steps\"");
    write_job(dir, 'd', "[1, 2]");
    write_job(dir, 'e', "");
    path_of(path, sizeof path, dir, 'f');
    assert_int_equal(mkfifo(path, 0666), 0);
    path_of(path, sizeof path, dir, 'g');
    assert_int_equal(mkdir(path, 0777), 0);
    assert_true(jobs_state_load(dir, &calls));
    assert_int_equal(f.n, 2);
    assert_int_equal(f.ids[0][0], 'b'); /* came first */
    assert_int_equal(f.steps[0], 7);
    assert_int_equal(f.ids[1][0], 'a');
    assert_int_equal(f.steps[1], 8);
    static const char *const left[] = {"c not JSON", "d not a job's", "e not JSON",
                                       "f not a regular file", "g not a regular file"};
    qsort(f.left, (size_t)f.n_left, sizeof *f.left, by_text);
    assert_int_equal(f.n_left, CN_COUNT(left));
    for (size_t i = 0; i < CN_COUNT(left); i++) assert_string_equal(f.left[i], left[i]);
    path_of(path, sizeof path, dir, 'c');
    assert_int_equal(access(path, F_OK), 0);

    /* one that can't be done isn't found again, but is there */
    jobs_state_put_away(dir, f.ids[0]);
    f = (found){.n = 0};
    assert_true(jobs_state_load(dir, &calls));
    assert_int_equal(f.n, 1);
    assert_int_equal(f.ids[0][0], 'a');
    char away[420];
    path_of(path, sizeof path, dir, 'b');
    snprintf(away, sizeof away, "%s.failed", path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(away, F_OK), 0);

    const int held = jobs_state_lock(dir, why, sizeof why);
    assert_true(held >= 0);
    assert_int_equal(jobs_state_lock(dir, why, sizeof why), -1);
    snprintf(path, sizeof path, "another server keeps its jobs there (PID %ld)", (long)getpid());
    assert_non_null(strstr(why, path));
    close(held);
    const int again = jobs_state_lock(dir, why, sizeof why);
    assert_true(again >= 0);
    close(again);

    snprintf(dir, sizeof dir, "%s/nowhere", root);
    assert_false(jobs_state_load(dir, &calls));
    assert_int_equal(jobs_state_lock(dir, why, sizeof why), -1);
    assert_non_null(strstr(why, "No such file"));
}

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),     cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hosts),      cmocka_unit_test(test_origins),
        cmocka_unit_test(test_keys),       cmocka_unit_test(test_routes),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_multipart),  cmocka_unit_test(test_kept_jobs),
        cmocka_unit_test(test_parameters), cmocka_unit_test(test_preprocessors),
        cmocka_unit_test(test_saved_jobs),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
#endif
