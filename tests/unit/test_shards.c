/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets as WebDataset shards through the public call: members and index, the same bytes
 * whatever the threads, parts and interruptions, filters, broken pictures, sizes of buckets. */
#include "../support/tiny_base.h"

#include "controlnet.h"
#include "data/buckets.h"
#include "data/condition.h"
#include "data/dataset.h"
#include "image/image.h"
#include "io/json.h"
#include "io/tar.h"
#include "io/tar_write.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/cn-shards-XXXXXX";
static cn_ctx *ctx;
static const char *const scenes[] = {"scenes:23?seed=5&size=64", NULL},
                         *const kinds[] = {"canny", "depth", "segmentation", NULL},
                         *const canny[] = {"canny", NULL};

static const char *at(int slot, const char *name)
{
    static char path[4][512];
    snprintf(path[slot], sizeof path[slot], "%s/%s", folder, name);
    return path[slot];
}

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(2);
    return ctx && mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    tiny_dir_remove(folder);
    return 0;
}

/* Three conditions of 23 scenes in shards of some 40,000 bytes. */
static cn_prepare_options drawn(const char *out)
{
    return (cn_prepare_options){.sources = scenes,
                                .conditions = kinds,
                                .output_dir = at(0, out),
                                .layout = "webdataset",
                                .shard_size = 40000};
}

static cn_prepare_result run(cn_ctx *with, const cn_prepare_options *o)
{
    cn_prepare_result r;
    if (cn_dataset_prepare(with, o, &r) != CN_OK) fail_msg("%s", cn_error(with));
    return r;
}

static char *read_file(const char *dir, const char *name, size_t *n)
{
    char path[1024], *data = NULL;
    snprintf(path, sizeof path, "%s/%s/%s", folder, dir, name);
    if (cn_file_read(ctx, path, 1 << 26, &data, n) != CN_OK) fail_msg("%s", cn_error(ctx));
    return data;
}

/* Every file of a finished set but prepare.txt, which both have too. */
static void expect_same(const char *a, const char *b, int64_t shards)
{
    static const char *const endings[] = {".tar", ".idx", "_stats.json"};
    for (int64_t i = 0; i < shards; i++)
        for (size_t k = 0; k < CN_COUNT(endings); k++) {
            char name[64];
            size_t n = 0, m = 0;
            snprintf(name, sizeof name, "%05d%s", (int)i, endings[k]);
            char *x = read_file(a, name, &n), *y = read_file(b, name, &m);
            if (n != m || memcmp(x, y, n) != 0) fail_msg("%s differs in %s and %s", name, a, b);
            cn_free(x);
            cn_free(y);
        }
}

static bool is_there(const char *dir, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", folder, dir, name);
    return cn_file_exists(path);
}

/* --- what is written -------------------------------------------------------------------------- */

typedef struct members {
    int n;
    char names[64][64];
    int64_t bytes[64], positions[64];
} members;

static cn_status take(void *user, const cn_tar_entry *e)
{
    members *m = user;
    assert_true(m->n < 64);
    snprintf(m->names[m->n], sizeof m->names[0], "%s", e->name);
    m->bytes[m->n] = e->bytes;
    m->positions[m->n++] = e->position;
    return CN_OK;
}

/* What lies at `place` of a tar file is the member whose headers begin at `position`. */
static void expect_bytes(const char *path, int64_t place, int64_t bytes, int64_t position)
{
    char *all = NULL, *data = NULL;
    size_t n = 0, m = 0;
    assert_int_equal(cn_file_read(ctx, path, 1 << 26, &all, &n), CN_OK);
    assert_int_equal(cn_tar_read(ctx, path, position, 1 << 26, NULL, &data, &m), CN_OK);
    assert_int_equal(m, bytes);
    assert_memory_equal(all + place, data, m);
    cn_free(all);
    cn_free(data);
}

static void members_and_index(void **state)
{
    (void)state;
    static const char *const endings[] = {"png", "canny.png", "depth.png", "segmentation.png",
                                          "txt", "json"};
    const cn_prepare_options o = drawn("one");
    const cn_prepare_result r = run(ctx, &o);
    members m = {0};
    char name[64], path[1024];
    size_t n = 0;
    assert_int_equal(r.pairs, 23);
    assert_int_equal(r.pictures, 23);
    assert_true(r.shards > 2);
    snprintf(path, sizeof path, "%s/one/00001.tar", folder);
    assert_int_equal(cn_tar_scan(ctx, path, take, &m), CN_OK);
    assert_int_equal(m.n % 6, 0);
    char *index = read_file("one", "00001.idx", &n), *line = index;
    int samples = 0;
    assert_int_equal(sscanf(index, "v1.2 %d", &samples), 1);
    assert_int_equal(samples, m.n / 6);
    for (int i = 0; i < m.n; i++) {
        char ending[64], named[64];
        long long place, bytes;
        int used = 0;
        if (i % 6 == 0) line = strchr(line, '\n') + 1;
        assert_int_equal(
            sscanf(line, "%63s %lld %lld %63s%n", ending, &place, &bytes, named, &used), 4);
        line += used;
        snprintf(name, sizeof name, "%.9s.%s", m.names[i - i % 6], endings[i % 6]);
        assert_string_equal(m.names[i], name);
        assert_string_equal(named, name);
        assert_string_equal(ending, endings[i % 6]);
        assert_int_equal(bytes, m.bytes[i]);
        expect_bytes(path, place, bytes, m.positions[i]);
    }
    cn_free(index);
}

/* The picture and its caption are those that `dataset scenes` writes, and the pairs can be trained
 * on. */
static void pairs_are_read(void **state)
{
    (void)state;
    const cn_scenes_options flat = {.output_dir = at(1, "flat"),
                                    .count = 23,
                                    .seed = 5,
                                    .size_px = 64,
                                    .condition = "segmentation"};
    assert_int_equal(cn_dataset_scenes(ctx, &flat), CN_OK);
    const cn_dataset_options shards = {.dir = at(2, "one"),
                                       .conditioning_image_column = "segmentation.png"},
                             pairs = {.dir = at(1, "flat")};
    cn_dataset *a = NULL, *b = NULL;
    if (cn_dataset_open(ctx, &shards, &a) != CN_OK) fail_msg("%s", cn_error(ctx));
    assert_int_equal(cn_dataset_open(ctx, &pairs, &b), CN_OK);
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) {
        cn_image *x[2], *y[2];
        cn_dataset_item one = {0}, two = {0};
        assert_int_equal(cn_dataset_load(ctx, a, i, 0, 0, &x[0], &x[1]), CN_OK);
        assert_int_equal(cn_dataset_load(ctx, b, i, 0, 0, &y[0], &y[1]), CN_OK);
        for (int k = 0; k < 2; k++) {
            assert_memory_equal(x[k]->rgb, y[k]->rgb, (size_t)(64 * 64 * 3));
            cn_image_destroy(x[k]);
            cn_image_destroy(y[k]);
        }
        assert_int_equal(cn_dataset_get(ctx, a, i, true, &one), CN_OK);
        assert_int_equal(cn_dataset_get(ctx, b, i, true, &two), CN_OK);
        assert_string_equal(one.prompt, two.prompt);
        cn_dataset_item_free(&one);
        cn_dataset_item_free(&two);
    }
    cn_dataset_close(a);
    cn_dataset_close(b);
}

/* --- the same bytes --------------------------------------------------------------------------- */

static void threads_and_parts(void **state)
{
    (void)state;
    cn_ctx *one = cn_ctx_create(1);
    cn_prepare_options o = drawn("parts");
    int64_t samples = 0, shards = 0;
    for (int k = 3; k >= 1; k--) {
        char part[8];
        snprintf(part, sizeof part, "%d/3", k);
        o.part = part;
        const cn_prepare_result r = run(one, &o);
        samples += r.pairs;
        shards += r.shards;
    }
    cn_ctx_destroy(one);
    assert_int_equal(samples, 23);
    expect_same("one", "parts", shards);
}

static void end_at(void *user, const char *stage, int64_t done, int64_t total)
{
    (void)stage, (void)total;
    if (done >= *(int64_t *)user) _exit(9);
}

/* A process that ends at once, as by SIGKILL, after `entries` entries. */
static void kill_at(const char *out, int64_t entries)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        cn_ctx *one = cn_ctx_create(1);
        cn_prepare_options o = drawn(out);
        o.progress = end_at;
        o.user = &entries;
        if (cn_dataset_prepare(one, &o, NULL) != CN_OK) _exit(8);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 9);
}

static void damage(const char *path, int64_t cut, const char *more, size_t n)
{
    char *data = NULL;
    size_t have = 0;
    assert_int_equal(cn_file_read(ctx, path, 1 << 26, &data, &have), CN_OK);
    cn_str all = {0};
    cn_str_add(&all, data, have - (size_t)cut);
    cn_str_add(&all, more, n);
    assert_int_equal(cn_file_write(ctx, path, all.data, all.len), CN_OK);
    cn_str_free(&all);
    cn_free(data);
}

static int find_partial(const char *dir)
{
    char name[64];
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "%05d.tar.partial", i);
        if (is_there(dir, name)) return i;
    }
    return -1;
}

/* What a killed process and a lost power supply leave: half a line, bytes that no line vouches for,
 * a sample that differs from its checksum, a shard all but named. */
static void goes_on_after_a_kill(void **state)
{
    (void)state;
    static const char zeros[1024];
    char path[1024];
    for (int64_t kill = 1; kill <= 23; kill += 2) {
        assert_int_equal(cn_dir_remove(ctx, at(3, "killed")), CN_OK);
        kill_at("killed", kill);
        const int i = find_partial("killed");
        assert_true(i >= 0);
        snprintf(path, sizeof path, "%s/killed/%05d.tar.partial", folder, i);
        if (kill % 3 == 0) damage(path, 600, "", 0);
        if (kill % 3 == 1) damage(path, 0, zeros, sizeof zeros);
        snprintf(path, sizeof path, "%s/killed/%05d.journal", folder, i);
        if (kill % 3 == 2) damage(path, 0, "+ 40", 4);
        const cn_prepare_options o = drawn("killed");
        const cn_prepare_result r = run(ctx, &o);
        assert_int_equal(r.pairs, 23);
        assert_true(r.kept > 0 || kill < 3);
        expect_same("one", "killed", r.shards);
        assert_true(find_partial("killed") < 0);
    }
}

static void refuses_other_things(void **state)
{
    (void)state;
    static const char *const
        other[] = {"scenes:24?seed=5&size=64", NULL},
        *const colour[] = {"scenes:24?colour=3", NULL}, *const none[] = {"scenes:0", NULL},
        *const person[] = {"scenes:9?with=unicorn", NULL}, *const scores[] = {"similarity", NULL};
    const struct {
        const char *const *sources;
        const char *part, *layout;
        const char *const *scores;
        const char *message;
    } cases[] = {
        {other, NULL, "webdataset", NULL, "another folder is expected"},
        {colour, NULL, "webdataset", NULL, "\"colour\" isn't known here; seed=S, size=PX"},
        {none, NULL, "webdataset", NULL, "scenes:0: "},
        {person, NULL, "webdataset", NULL, "no shape is called \"unicorn\""},
        {scenes, "4/3", "webdataset", NULL, "K/N is expected"},
        {scenes, "2/", "webdataset", NULL, "K/N is expected"},
        {scenes, "1/2", "fill50k", NULL, "--part has no effect on the layout fill50k"},
        {scenes, NULL, "webdataset", scores, "KEY=MIN:MAX is expected"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        cn_prepare_options o = drawn("one");
        o.sources = cases[i].sources;
        o.part = cases[i].part;
        o.layout = cases[i].layout;
        o.scores = cases[i].scores;
        if (cases[i].layout[0] == 'f') o.shard_size = 0;
        assert_int_not_equal(cn_dataset_prepare(ctx, &o, NULL), CN_OK);
        if (!strstr(cn_error(ctx), cases[i].message))
            fail_msg("'%s' is not in '%s'", cases[i].message, cn_error(ctx));
    }
}

/* --- tars as a source ------------------------------------------------------------------------- */

static void add_picture(cn_str *tar, int i, const cn_image *image)
{
    char name[64], text[128];
    uint8_t *bytes = NULL;
    size_t n = 0;
    assert_int_equal(cn_jpeg_encode(ctx, image, 90, &bytes, &n), CN_OK);
    snprintf(name, sizeof name, "%05d.jpg", i);
    /* every tenth is cut short, as downloads are */
    assert_int_equal(cn_tar_add(ctx, tar, name, bytes, i % 10 == 3 ? n / 2 : n), CN_OK);
    snprintf(name, sizeof name, "%05d.txt", i);
    snprintf(text, sizeof text, "picture %d", i);
    assert_int_equal(cn_tar_add(ctx, tar, name, text, strlen(text)), CN_OK);
    snprintf(name, sizeof name, "%05d.json", i);
    snprintf(text, sizeof text, "{\"url\": \"http://host/%d\", \"similarity\": 0.%d}", i, i % 10);
    assert_int_equal(cn_tar_add(ctx, tar, name, text, strlen(text)), CN_OK);
    cn_free(bytes);
}

/* A tar of 20 pictures, two of them cut short; number 5 is of one colour, and smaller. */
static void write_tar(const char *path)
{
    cn_str tar = {0};
    for (int i = 0; i < 20; i++) {
        cn_image *image = NULL;
        const int64_t size = i == 5 ? 48 : 64;
        assert_int_equal(cn_image_create(ctx, size, size, &image), CN_OK);
        for (int64_t k = 0; i != 5 && k < size * size; k++)
            if (k % size > 20 + i) image->rgb[3 * k] = 255;
        add_picture(&tar, i, image);
        cn_image_destroy(image);
    }
    assert_int_equal(cn_tar_add_end(ctx, &tar), CN_OK);
    assert_int_equal(cn_file_write(ctx, path, tar.data, tar.len), CN_OK);
    cn_str_free(&tar);
}

static int64_t left_out(const cn_prepare_result *r, const char *reason)
{
    for (int i = 0; r->left_out[i].reason[0]; i++)
        if (strcmp(r->left_out[i].reason, reason) == 0) return r->left_out[i].count;
    return 0;
}

static void broken_members_and_filters(void **state)
{
    (void)state;
    write_tar(at(1, "in.tar"));
    const char *const source[] = {at(1, "in.tar"), NULL};
    static const char *const scores[] = {"similarity=0.1:0.7", NULL};
    cn_prepare_options o = {.sources = source,
                            .conditions = canny,
                            .output_dir = at(0, "tars"),
                            .layout = "webdataset"};
    cn_prepare_result r;
    assert_int_equal(cn_dataset_prepare(ctx, &o, &r), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "2 of 20 pictures failed; 18 samples are there"));
    assert_int_equal(r.failed, 2);
    size_t n = 0;
    char *stats = read_file("tars", "00000_stats.json", &n);
    assert_non_null(strstr(stats, "damaged JPEG"));
    cn_free(stats);
    o.on_bad = "skip";
    assert_int_equal(cn_dataset_prepare(ctx, &o, &r), CN_OK);
    assert_int_equal(r.kept, 18);
    char kind[512];
    assert_int_equal(cn_condition_text(ctx, at(0, "tars"), kind), CN_OK);
    assert_memory_equal(kind, "canny low=100 high=200", 22);
    o.output_dir = at(0, "stopped");
    o.on_bad = "stop";
    assert_int_equal(cn_dataset_prepare(ctx, &o, &r), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "in.tar"));
    o.output_dir = at(0, "filtered");
    o.on_bad = "skip";
    o.scores = scores;
    o.min_size = 50;
    o.min_density = 0.001;
    r = run(ctx, &o);
    /* similarity is 0.0, 0.8 or 0.9 for six of twenty */
    assert_int_equal(left_out(&r, "score"), 6);
    assert_int_equal(left_out(&r, "small"), 1);
    assert_int_equal(left_out(&r, "failed"), 2);
    assert_int_equal(r.pairs, 11);
}

/* A picture that is neither resized nor drawn keeps its bytes; what came with it stands in .json.
 */
static void bytes_and_json_are_kept(void **state)
{
    (void)state;
    char path[1024], *data = NULL;
    json_t *json = NULL;
    size_t n = 0, m = 0;
    char *before = NULL;
    snprintf(path, sizeof path, "%s/tars/00000.tar", folder);
    assert_int_equal(cn_tar_read(ctx, at(1, "in.tar"), 0, 1 << 20, NULL, &before, &m), CN_OK);
    /* the first member lies behind the comment, a header and a block of text */
    assert_int_equal(cn_tar_read(ctx, path, 0, 1 << 20, NULL, &data, &n), CN_OK);
    assert_int_equal(n, m);
    assert_memory_equal(data, before, n);
    cn_free(data);
    cn_free(before);
    cn_dataset *d = NULL;
    const cn_dataset_options o = {
        .dir = path, .conditioning_image_column = "cond.png", .caption_column = "txt"};
    if (cn_dataset_open(ctx, &o, &d) != CN_OK) fail_msg("%s", cn_error(ctx));
    cn_dataset_item item = {0};
    assert_int_equal(cn_dataset_get(ctx, d, 1, true, &item), CN_OK);
    assert_string_equal(item.prompt, "picture 1");
    cn_dataset_item_free(&item);
    cn_dataset_close(d);
    const cn_dataset_options alone = {.dir = path, .conditioning_image_column = ""};
    assert_int_equal(cn_dataset_open(ctx, &alone, &d), CN_OK);
    assert_int_equal(cn_dataset_get(ctx, d, 1, false, &item), CN_OK);
    assert_int_equal(
        cn_tar_read(ctx, item.condition.path, item.condition.position, 1 << 20, NULL, &data, &n),
        CN_OK);
    assert_int_equal(cn_json_load_memory(ctx, "json", data, n, &json), CN_OK);
    assert_string_equal(cn_json_str(json_object_get(json, "original"), "url", ""), "http://host/1");
    assert_string_equal(cn_json_str(json, "name", ""), "00001");
    json_decref(json);
    cn_free(data);
    cn_dataset_item_free(&item);
    cn_dataset_close(d);
}

/* Random thresholds follow seed and picture, so parts and orders don't change them; two sources
 * stand behind each other. */
static void sources_behind_each_other(void **state)
{
    (void)state;
    const char *const both[] = {at(1, "in.tar"), "circles:4?seed=2&size=64", NULL};
    cn_prepare_options o = {.sources = both,
                            .conditions = canny,
                            .output_dir = at(0, "both"),
                            .layout = "webdataset",
                            .on_bad = "skip",
                            .random_thresholds = true,
                            .seed = 7,
                            .quality = 90,
                            .shard_size = 20000};
    const cn_prepare_result r = run(ctx, &o);
    assert_int_equal(r.pictures, 24);
    assert_int_equal(r.pairs, 22);
    o.output_dir = at(0, "again");
    o.part = "2/2";
    run(ctx, &o);
    o.part = "1/2";
    run(ctx, &o);
    expect_same("both", "again", r.shards);
}

/* Which picture of its source a sample is of, by its JSON. */
static void name_of(const char *dir, int64_t i, char name[64], char settings[512])
{
    char member[64];
    size_t n = 0;
    char *tar = read_file(dir, "00000.tar", &n);
    snprintf(member, sizeof member, "%09d.json", (int)i);
    char *found = memmem(tar, n, member, strlen(member));
    assert_non_null(found);
    json_t *json = json_loads(found + 512, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(json);
    snprintf(name, 64, "%s", cn_json_str(json, "name", ""));
    char *text = json_dumps(json_object_get(json, "conditions"), JSON_COMPACT);
    snprintf(settings, 512, "%s", text);
    free(text);
    json_decref(json);
    cn_free(tar);
}

/* Of eight circles every other one, of two scenes each three times, with other thresholds. */
static void sources_are_weighed(void **state)
{
    (void)state;
    static const char *const two[] = {"circles:8?seed=2&size=64", "scenes:2?seed=5&size=64", NULL};
    char first[64], name[64], drawn_first[512], drawn_next[512];
    cn_prepare_options o = {.sources = two,
                            .conditions = canny,
                            .output_dir = at(0, "weighed"),
                            .layout = "webdataset",
                            .random_thresholds = true,
                            .source_weights = "0.5,3"};
    assert_int_equal(run(ctx, &o).pictures, 4 + 6);
    for (int64_t i = 0; i < 4; i++) {
        char expected[64];
        name_of("weighed", i, name, drawn_first);
        snprintf(expected, sizeof expected, "%d", (int)(2 * i));
        if (!strstr(name, expected)) fail_msg("%s at %d", name, (int)i);
    }
    name_of("weighed", 4, first, drawn_first);
    name_of("weighed", 5, name, drawn_next);
    assert_string_not_equal(first, name);
    name_of("weighed", 6, name, drawn_next);
    assert_string_equal(first, name);
    assert_string_not_equal(drawn_first, drawn_next);
    static const char *const wrong[] = {"1", "1,2,3", "1,0", "1,x", "1,2 ", "", "1,-2", "1,2000"};
    for (size_t i = 0; i < CN_COUNT(wrong); i++) {
        o.source_weights = wrong[i];
        o.output_dir = at(0, "unweighed");
        if (cn_dataset_prepare(ctx, &o, NULL) != CN_EINVAL || !strstr(cn_error(ctx), "for each"))
            fail_msg("\"%s\": %s", wrong[i], cn_error(ctx));
    }
    o.source_weights = "1,2";
    o.duplicates = "equal";
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
    assert_non_null(strstr(cn_error(ctx), "rid of duplicates"));
}

/* Number 1 and 3 show what 0 does, 3 as JPEG; 2 is another picture. */
static void lookalikes_are_left_out(void **state)
{
    (void)state;
    cn_str tar = {0};
    for (int i = 0; i < 4; i++) {
        char name[32];
        cn_image *image = NULL;
        uint8_t *bytes = NULL;
        size_t n = 0;
        assert_int_equal(cn_image_create(ctx, 64, 64, &image), CN_OK);
        for (int k = 0; k < 64 * 64; k++) {
            const double x = i == 2 ? k / 64 : k % 64, y = i == 2 ? 63 - k % 64 : k / 64;
            memset(image->rgb + 3 * k,
                   (int)(128 + 50 * sin(x * 0.11 + y * 0.05) + 40 * cos(x * 0.04 - y * 0.13) +
                         30 * sin(x * y / 400)),
                   3);
        }
        assert_int_equal(i == 3 ? cn_jpeg_encode(ctx, image, 70, &bytes, &n)
                                : cn_png_encode(ctx, image, NULL, &bytes, &n),
                         CN_OK);
        snprintf(name, sizeof name, "%d.%s", i, i == 3 ? "jpg" : "png");
        assert_int_equal(cn_tar_add(ctx, &tar, name, bytes, n), CN_OK);
        cn_free(bytes);
        cn_image_destroy(image);
    }
    assert_int_equal(cn_tar_add_end(ctx, &tar), CN_OK);
    assert_int_equal(cn_file_write(ctx, at(1, "alike.tar"), tar.data, tar.len), CN_OK);
    cn_str_free(&tar);
    const char *const source[] = {at(1, "alike.tar"), NULL};
    cn_prepare_options o = {.sources = source,
                            .conditions = canny,
                            .output_dir = at(0, "alike"),
                            .layout = "webdataset",
                            .duplicates = "near",
                            .shard_size = 1};
    cn_prepare_result r = run(ctx, &o);
    assert_int_equal(r.pairs, 2);
    assert_int_equal(left_out(&r, "duplicate"), 2);
    assert_false(is_there("alike", "hashes.partial"));
    o.output_dir = at(0, "alike-parts"); /* the second part knows what the first one holds */
    o.part = "2/2";
    r = run(ctx, &o);
    assert_int_equal(left_out(&r, "duplicate"), 1);
    o.part = "1/2";
    r = run(ctx, &o);
    assert_int_equal(left_out(&r, "duplicate"), 1);
    expect_same("alike", "alike-parts", 4);
}

/* --- buckets ---------------------------------------------------------------------------------- */

static const int64_t sides[][2] = {{64, 48}, {90, 30}, {20, 20}, {6, 40}};

/* Two classes, whose border isn't straight. */
static void put_labelled(int i)
{
    char name[64];
    cn_image *picture = NULL, *labels = NULL;
    const int64_t w = sides[i][0], h = sides[i][1];
    assert_int_equal(cn_image_create(ctx, w, h, &picture), CN_OK);
    assert_int_equal(cn_image_create(ctx, w, h, &labels), CN_OK);
    for (int64_t k = 0; k < w * h; k++) {
        const int64_t x = k % w, y = k / w;
        memset(labels->rgb + 3 * k, 2 + (x * h > y * w + h * (y % 5)), 3);
        picture->rgb[3 * k] = (uint8_t)(7 * x);
        picture->rgb[3 * k + 1] = (uint8_t)(5 * y);
        picture->rgb[3 * k + 2] = (uint8_t)(x * y);
    }
    snprintf(name, sizeof name, "wide/images/training/%d.png", i);
    assert_int_equal(cn_image_save_png(ctx, at(0, name), picture, NULL), CN_OK);
    snprintf(name, sizeof name, "wide/annotations/training/%d.png", i);
    assert_int_equal(cn_image_save_png(ctx, at(0, name), labels, NULL), CN_OK);
    cn_image_destroy(picture);
    cn_image_destroy(labels);
}

/* Pair i of a shard of all, as it is. */
static void load_pair(const char *dir, const char *column, int64_t i, cn_image **condition,
                      cn_image **target)
{
    cn_dataset *d = NULL;
    const cn_dataset_options o = {.dir = at(3, dir), .conditioning_image_column = column};
    if (cn_dataset_open(ctx, &o, &d) != CN_OK ||
        cn_dataset_load(ctx, d, i, 0, 0, condition, target) != CN_OK)
        fail_msg("%s", cn_error(ctx));
    cn_dataset_close(d);
}

static void expect_image(const cn_image *a, const cn_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->rgb, b->rgb, (size_t)(3 * a->width * a->height));
}

/* The pair of the set with buckets is what training's bucket shows of the other set's, whose
 * pictures and maps are whole. */
static void expect_bucket(const cn_bucket_rules *rules, const char *whole, const char *bucketed,
                          const char *column, bool labels, int64_t i)
{
    cn_image *condition[3] = {NULL}, *target[3] = {NULL};
    cn_train_bucket b;
    load_pair(whole, column, i, &condition[0], &target[0]);
    load_pair(bucketed, column, i, &condition[1], &target[1]);
    const int64_t w = target[0]->width, h = target[0]->height;
    assert_true(cn_bucket_choose(rules, w, h, &b));
    const cn_crop crop = {0.5, 0.5, cn_bucket_zoom(rules, &b, w, h)};
    assert_int_equal(cn_image_resize_crop(ctx, target[0], b.width, b.height, crop, &target[2]),
                     CN_OK);
    expect_image(target[1], target[2]);
    assert_int_equal((labels ? cn_image_resize_crop_labels : cn_image_resize_crop)(
                         ctx, condition[0], b.width, b.height, crop, &condition[2]),
                     CN_OK);
    expect_image(condition[1], condition[2]);
    for (int k = 0; k < 3; k++) {
        cn_image_destroy(condition[k]);
        cn_image_destroy(target[k]);
    }
}

static void buckets_are_those_of_training(void **state)
{
    (void)state;
    static const char *const labelled[] = {"canny", "seg_ade", NULL};
    const char *const sources[] = {at(1, "wide/images/training"), NULL};
    assert_int_equal(cn_dir_make(ctx, at(0, "wide/images/training")), CN_OK);
    assert_int_equal(cn_dir_make(ctx, at(0, "wide/annotations/training")), CN_OK);
    for (int i = 0; i < (int)CN_COUNT(sides); i++) put_labelled(i);
    for (int no_upscale = 0; no_upscale < 2; no_upscale++) {
        const char *const names[] = {no_upscale ? "shrunk" : "fitted",
                                     no_upscale ? "shrunk-scenes" : "fitted-scenes"};
        const cn_train_options t = {.resolution = 32,
                                    .enable_bucket = true,
                                    .bucket_no_upscale = no_upscale,
                                    .bucket_reso_steps = 8};
        const cn_bucket_rules rules = cn_bucket_rules_of(&t);
        cn_prepare_options o = drawn("wide-whole");
        o.sources = sources;
        o.conditions = labelled;
        o.shard_size = 0;
        run(ctx, &o);
        o.output_dir = at(2, names[0]);
        o.resolution = 32;
        o.enable_bucket = true;
        o.bucket_no_upscale = no_upscale;
        o.bucket_reso_steps = 8;
        const cn_prepare_result r = run(ctx, &o);
        assert_int_equal(r.pairs, 4 - no_upscale);
        assert_int_equal(left_out(&r, "small"), no_upscale);
        for (int64_t i = 0; i < r.pairs; i++)
            expect_bucket(&rules, "wide-whole", names[0], "seg_ade.png", true, i);
        o.bucket_reso_steps = 16;
        assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
        /* exact maps */
        o = drawn("one");
        run(ctx, &o);
        o.output_dir = at(2, names[1]);
        o.resolution = 32;
        o.enable_bucket = true;
        o.bucket_no_upscale = no_upscale;
        o.bucket_reso_steps = 8;
        run(ctx, &o);
        for (int64_t i = 0; i < 23; i += 11)
            expect_bucket(&rules, "one", names[1], "depth.png", false, i);
    }
}

/* --- compression ------------------------------------------------------------------------------ */

/* Other bytes for the same pixels, and a run that goes on keeps to its level. */
static void levels_keep_the_pixels(void **state)
{
    (void)state;
    static const char *const names[] = {"level-default", "level-1", "level-9"};
    static const int64_t levels[] = {0, 1, 9};
    int64_t bytes[3];
    cn_prepare_options o = drawn(names[0]);
    for (int k = 0; k < 3; k++) {
        o.output_dir = at(0, names[k]);
        o.png_level = levels[k];
        bytes[k] = run(ctx, &o).bytes;
        for (int64_t i = 0; i < 23; i += 11) {
            cn_image *a[2] = {NULL}, *b[2] = {NULL};
            load_pair(names[0], "depth.png", i, &a[0], &a[1]);
            load_pair(names[k], "depth.png", i, &b[0], &b[1]);
            expect_image(a[0], b[0]);
            expect_image(a[1], b[1]);
            for (int which = 0; which < 2; which++) {
                cn_image_destroy(a[which]);
                cn_image_destroy(b[which]);
            }
        }
    }
    assert_true(bytes[1] > bytes[0]);
    assert_true(bytes[2] < bytes[1]);
    o.png_level = 6;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EMISMATCH);
    o.png_level = 10;
    assert_int_equal(cn_dataset_prepare(ctx, &o, NULL), CN_EINVAL);
}

/* A dry run tells the bytes of the real one within a tenth, and writes nothing. */
static void a_dry_run_writes_nothing(void **state)
{
    (void)state;
    cn_prepare_options o = drawn("dry");
    o.dry_run = true;
    const cn_prepare_result r = run(ctx, &o);
    assert_int_equal(r.sampled, 23);
    assert_false(cn_dir_exists(at(0, "dry")));
    o = drawn("one");
    const cn_prepare_result real = run(ctx, &o);
    assert_int_equal(r.shards, real.shards);
    assert_true(r.bytes > real.bytes * 9 / 10 && r.bytes <= real.bytes);
}

/* The last picture goes when the first chunk is done. */
static void hide_last(void *user, const char *stage, int64_t done, int64_t total)
{
    char hidden[600];
    (void)stage, (void)total;
    snprintf(hidden, sizeof hidden, "%s.hidden", (const char *)user);
    if (done > 0) (void)!rename(user, hidden);
}

/* A folder that vanished is not a folder of broken pictures: the run ends, what was made stays, and
 * the same call goes on once it is back. */
static void a_vanished_file_ends_the_run(void **state)
{
    (void)state;
    char name[64], last[512], hidden[600];
    cn_ctx *one = cn_ctx_create(1);
    cn_image *image = NULL;
    assert_int_equal(cn_dir_make(ctx, at(1, "photos")), CN_OK);
    assert_int_equal(cn_image_create(ctx, 16, 16, &image), CN_OK);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "photos/%02d.png", i);
        assert_int_equal(cn_image_save_png(ctx, at(2, name), image, NULL), CN_OK);
    }
    cn_image_destroy(image);
    snprintf(last, sizeof last, "%s", at(2, "photos/39.png"));
    snprintf(hidden, sizeof hidden, "%s.hidden", last);
    const char *const source[] = {at(1, "photos"), NULL};
    cn_prepare_options o = {.sources = source,
                            .conditions = canny,
                            .output_dir = at(0, "vanished"),
                            .layout = "webdataset",
                            .on_bad = "skip",
                            .progress = hide_last,
                            .user = last};
    cn_prepare_result r;
    assert_int_equal(cn_dataset_prepare(one, &o, &r), CN_EIO);
    assert_non_null(strstr(cn_error(one), "39.png"));
    assert_int_equal(rename(hidden, last), 0);
    o.progress = NULL;
    r = run(one, &o);
    assert_int_equal(r.pairs, 40);
    assert_int_equal(r.kept, 39);
    cn_ctx_destroy(one);
}

static int64_t count_pairs(const char *tar)
{
    cn_dataset *d = NULL;
    const cn_dataset_options o = {.dir = at(2, tar), .conditioning_image_column = "canny.png"};
    if (cn_dataset_open(ctx, &o, &d) != CN_OK) fail_msg("%s", cn_error(ctx));
    const int64_t n = d->n;
    cn_dataset_item item = {0};
    assert_int_equal(cn_dataset_get(ctx, d, n - 1, true, &item), CN_OK);
    assert_true(item.prompt[0] != 0);
    cn_dataset_item_free(&item);
    cn_dataset_close(d);
    return n;
}

/* An index is believed as far as the tar file bears it out: of another shard, cut short, or none at
 * all, the tar file itself is read. What is believed is seen by an index that names fewer pairs. */
static void an_index_is_checked(void **state)
{
    (void)state;
    size_t n = 0;
    char *index = read_file("one", "00000.idx", &n), *other = read_file("one", "00001.idx", &n);
    const int64_t whole = count_pairs("one/00000.tar");
    const char *const bad[] = {other,
                               "v1.2 3\n",
                               "v1.2 1\npng 1536 x 000000000.png\n",
                               "v1.2 1\npng 99999999999 5 000000000.png\n",
                               "",
                               "PK\3\4"};
    for (size_t i = 0; i < CN_COUNT(bad); i++) {
        assert_int_equal(cn_file_write(ctx, at(1, "one/00000.idx"), bad[i], strlen(bad[i])), CN_OK);
        assert_int_equal(count_pairs("one/00000.tar"), whole);
    }
    cn_str fewer = {0};
    const char *second = strchr(strchr(index, '\n') + 1, '\n') + 1;
    cn_str_addf(&fewer, "v1.2 %d\n%s", (int)whole - 1, second);
    assert_int_equal(cn_file_write(ctx, at(1, "one/00000.idx"), fewer.data, fewer.len), CN_OK);
    assert_int_equal(count_pairs("one/00000.tar"), whole - 1);
    assert_int_equal(cn_file_write(ctx, at(1, "one/00000.idx"), index, strlen(index)), CN_OK);
    cn_str_free(&fewer);
    cn_free(index);
    cn_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_and_index),
        cmocka_unit_test(pairs_are_read),
        cmocka_unit_test(threads_and_parts),
        cmocka_unit_test(goes_on_after_a_kill),
        cmocka_unit_test(refuses_other_things),
        cmocka_unit_test(broken_members_and_filters),
        cmocka_unit_test(bytes_and_json_are_kept),
        cmocka_unit_test(sources_behind_each_other),
        cmocka_unit_test(sources_are_weighed),
        cmocka_unit_test(lookalikes_are_left_out),
        cmocka_unit_test(buckets_are_those_of_training),
        cmocka_unit_test(levels_keep_the_pixels),
        cmocka_unit_test(a_dry_run_writes_nothing),
        cmocka_unit_test(an_index_is_checked),
        cmocka_unit_test(a_vanished_file_ends_the_run),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
