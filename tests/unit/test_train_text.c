/* SPDX-License-Identifier: Apache-2.0 */
/* test_train_text.c - whole small runs whose texts are encoded in their step, their tags varied by
 * chance, from data of every layout.
 */
#include "../support/unit/tiny_run.h"

#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <string.h>

enum { PAIRS = 12, STEPS = 5 };

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

/* --- the same pairs in every layout ----------------------------------------------------------- */

static const char *const layouts[] = {"fill50k", "imagefolder", "csv", "folders", "webdataset"};

/* Tags of pair i, the first kept by its place or by what stands behind it. */
static void caption(int i, const char *between, char out[64])
{
    static const char *const shapes[] = {"cube", "sphere", "cone"};
    snprintf(out, 64, "a %s%s red, green, sky%s", shapes[i % 3], between, i % 2 ? ", blue" : "");
}

static void copy(const char *dir, const char *from, const char *to)
{
    char path[512], *data = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", scenes, from);
    must(cn_file_read(ctx, path, 1 << 20, &data, &n));
    snprintf(path, sizeof path, "%s/%s", dir, to);
    must(cn_file_write(ctx, path, data, n));
    cn_free(data);
}

static void add_member(struct archive *a, const char *name, const char *data, size_t n)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_size(e, (la_int64_t)n);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, n), (int)n);
    archive_entry_free(e);
}

static void write_shard(const char *dir, const char *between)
{
    char path[512], name[32], text[64], *data = NULL;
    static const char *const kinds[][2] = {{"source", "cond.png"}, {"target", "png"}};
    size_t n = 0;
    struct archive *a = archive_write_new();
    snprintf(path, sizeof path, "%s/pairs.tar", dir);
    archive_write_set_format_pax_restricted(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (int i = 0; i < PAIRS; i++) {
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%s/%d.png", scenes, kinds[k][0], i);
            snprintf(name, sizeof name, "%02d.%s", i, kinds[k][1]);
            must(cn_file_read(ctx, path, 1 << 20, &data, &n));
            add_member(a, name, data, n);
            cn_free(data);
        }
        caption(i, between, text);
        snprintf(name, sizeof name, "%02d.txt", i);
        add_member(a, name, text, strlen(text));
    }
    archive_write_free(a);
}

/* One line of the layout's list, or what stands beside the picture. */
static void add_line(const char *layout, const char *dir, int i, const char *text, cn_str *lines)
{
    char path[512];
    if (!strcmp(layout, "fill50k")) {
        cn_str_addf(lines,
                    "{\"source\": \"conditioning_images/%02d.png\", \"target\": "
                    "\"images/%02d.png\", \"prompt\": \"%s\"}\n",
                    i, i, text);
    } else if (!strcmp(layout, "imagefolder")) {
        cn_str_addf(lines,
                    "{\"file_name\": \"images/%02d.png\", \"conditioning_image\": "
                    "\"conditioning_images/%02d.png\", \"text\": \"%s\"}\n",
                    i, i, text);
    } else if (!strcmp(layout, "csv")) {
        cn_str_addf(lines, "%simages/%02d.png,\"%s\",conditioning_images/%02d.png\n",
                    i ? "" : "file_name,text,conditioning_image\n", i, text, i);
    } else {
        snprintf(path, sizeof path, "%s/images/%02d.txt", dir, i);
        must(cn_file_write(ctx, path, text, strlen(text)));
    }
}

static void write_pairs(const char *layout, const char *between, char dir[256])
{
    static const char *const lists[] = {"prompt.json", "metadata.jsonl", "metadata.csv"};
    char path[512], from[64], to[64], text[64];
    cn_str lines = {0};
    snprintf(from, sizeof from, "%s-%s", layout, strstr(between, "|") ? "cut" : "listed");
    path_in(dir, from);
    must(cn_dir_make(ctx, dir));
    if (!strcmp(layout, "webdataset")) {
        write_shard(dir, between);
        return;
    }
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s/%s", dir, k ? "images" : "conditioning_images");
        must(cn_dir_make(ctx, path));
        for (int i = 0; i < PAIRS; i++) {
            snprintf(from, sizeof from, "%s/%d.png", k ? "target" : "source", i);
            snprintf(to, sizeof to, "%s/%02d.png", k ? "images" : "conditioning_images", i);
            copy(dir, from, to);
        }
    }
    for (int i = 0; i < PAIRS; i++) {
        caption(i, between, text);
        add_line(layout, dir, i, text, &lines);
    }
    for (size_t k = 0; k < CN_COUNT(lists); k++) {
        if (strcmp(layout, layouts[k]) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", dir, lists[k]);
        must(cn_file_write(ctx, path, lines.data, lines.len));
    }
    cn_str_free(&lines);
}

/* --- runs ------------------------------------------------------------------------------------- */

static cn_train_options options_for(const char *data, const char *output)
{
    cn_train_options o = tiny_options(output);
    o.train_data_dir = data;
    o.max_train_steps = STEPS;
    o.train_batch_size = 3;
    o.proportion_empty_prompts = 0.2;
    o.cache_text = false;
    return o;
}

static cn_train_options shuffled(const char *data, const char *output)
{
    cn_train_options o = options_for(data, output);
    o.shuffle_caption = true;
    o.keep_tokens = 1;
    return o;
}

/* Batches of other sizes add up in another order: 1e-5. */
static void encoding_in_the_step_changes_nothing(void **state)
{
    (void)state;
    double a[8], b[8], spent[8];
    char cached[256], fresh[256];
    for (int pictures = 0; pictures < 2; pictures++) {
        path_in(cached, pictures ? "cached" : "cached-text");
        path_in(fresh, pictures ? "fresh-text" : "fresh");
        cn_train_options o = options_for(scenes, cached);
        o.cache_latents = pictures;
        o.cache_text = true;
        must(cn_train(ctx, &o, NULL, NULL));
        o.output_dir = fresh;
        o.cache_text = false;
        must(cn_train(ctx, &o, NULL, NULL));
        assert_int_equal(tiny_metrics(cached, "loss", a, 8), STEPS);
        assert_int_equal(tiny_metrics(fresh, "loss", b, 8), STEPS);
        for (int i = 0; i < STEPS; i++) assert_true(fabs(a[i] - b[i]) <= 1e-5 * fabs(a[i]));
        assert_int_equal(tiny_metrics(fresh, "encode_seconds", spent, 8), STEPS);
        assert_true(spent[0] > 0);
    }
    assert_int_equal(tiny_metrics(cached, "encode_seconds", spent, 8), 0);
}

/* The same pairs give the same weights wherever they come from; the order of tags counts. */
static void every_layout_is_shuffled_alike(void **state)
{
    (void)state;
    char first[256], dir[256], out[512];
    for (size_t k = 0; k < CN_COUNT(layouts); k++) {
        write_pairs(layouts[k], ",", dir);
        snprintf(out, sizeof out, "%s-out", dir);
        const cn_train_options o = shuffled(dir, out);
        must(cn_train(ctx, &o, NULL, NULL));
        if (!k) path_in(first, "fill50k-listed-out");
        if (!same_file(first, out, "control.safetensors"))
            fail_msg("%s: other weights than from %s", layouts[k], layouts[0]);
    }
    snprintf(out, sizeof out, "%s-in-order", dir);
    cn_train_options o = options_for(dir, out);
    must(cn_train(ctx, &o, NULL, NULL));
    assert_false(same_file(first, out, "control.safetensors"));
    snprintf(out, sizeof out, "%s-all", dir);
    o = shuffled(dir, out);
    o.keep_tokens = 0;
    must(cn_train(ctx, &o, NULL, NULL));
    assert_false(same_file(first, out, "control.safetensors"));
}

/* A separator in the caption says the same as a number; held-out captions stay in order, without
 * it. */
static void kept_tags_may_be_marked(void **state)
{
    (void)state;
    char counted[256], marked[256], a[256], b[256];
    double with[4], without[4], marked_with[4], marked_without[4];
    write_pairs("folders", ",", counted);
    write_pairs("folders", " ||| ", marked);
    path_in(a, "counted-out");
    path_in(b, "marked-out");
    cn_train_options o = shuffled(counted, a);
    o.validation_steps = STEPS;
    o.validation_count = 2;
    o.validation_sampling_steps = 1;
    must(cn_train(ctx, &o, NULL, NULL));
    o.train_data_dir = marked;
    o.output_dir = b;
    o.keep_tokens = 0;
    o.keep_tokens_separator = "|||";
    must(cn_train(ctx, &o, NULL, NULL));
    assert_true(same_file(a, b, "control.safetensors"));
    assert_int_equal(tiny_metrics(a, "loss_with_control", with, 4), 1);
    assert_int_equal(tiny_metrics(b, "loss_with_control", marked_with, 4), 1);
    assert_int_equal(tiny_metrics(a, "loss_without_control", without, 4), 1);
    assert_int_equal(tiny_metrics(b, "loss_without_control", marked_without, 4), 1);
    assert_true(with[0] == marked_with[0] && without[0] == marked_without[0]);
}

/* Eleven steps at once, and the same in parts that end in the middle of an epoch: the same
 * bytes. */
static void tags_resume_exactly(void **state)
{
    (void)state;
    char data[256], whole[256], parts[256];
    write_pairs("csv", ",", data);
    for (int variant = 0; variant < 3; variant++) {
        cn_train_options o = shuffled(data, whole);
        snprintf(whole, sizeof whole, "%s/resume-%d-whole", root, variant);
        snprintf(parts, sizeof parts, "%s/resume-%d-parts", root, variant);
        o.caption_tag_dropout_rate = variant ? 0.3 : 0;
        o.dataloader_num_workers = variant;
        if (variant == 2) {
            o.cache_latents = false;
            o.random_crop = true;
            o.gradient_accumulation_steps = 2;
        }
        o.max_train_steps = 11;
        must(cn_train(ctx, &o, NULL, NULL));
        o.output_dir = parts;
        o.resume_from_checkpoint = "latest";
        o.checkpointing_steps = 1;
        for (o.max_train_steps = 2; o.max_train_steps <= 11; o.max_train_steps += 3)
            must(cn_train(ctx, &o, NULL, NULL));
        if (!same_file(whole, parts, "control.safetensors"))
            fail_msg("variant %d differs after resuming", variant);
    }
    char other[256];
    path_in(other, "resume-0-whole");
    assert_false(same_file(whole, other, "control.safetensors"));
}

/* --- plans ------------------------------------------------------------------------------------ */

static void keep_plan(void *user, const cn_train_plan *p)
{
    *(cn_train_plan *)user = *p;
}

static cn_train_plan plan_of(cn_train_options o)
{
    cn_train_plan p = {0};
    o.dry_run = true;
    must(cn_train(ctx, &o, &(cn_train_callbacks){.user = &p, .planned = keep_plan}, NULL));
    return p;
}

/* The encoder's weights instead of encoded texts, and tokens in every pass that waits. */
static void texts_in_the_step_are_planned(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "planned");
    cn_train_options o = options_for(scenes, out);
    const cn_train_plan fresh = plan_of(o);
    o.cache_text = true;
    const cn_train_plan cached = plan_of(o);
    o.cache_text = false;
    o.cache_latents = false;
    const cn_train_plan both = plan_of(o);
    assert_int_equal(cached.encoder_bytes, 0);
    assert_true(fresh.encoder_bytes > 0 && both.encoder_bytes > fresh.encoder_bytes);
    assert_true(fresh.data_bytes < cached.data_bytes);
    assert_true(fresh.gflop_per_pass > cached.gflop_per_pass);
    assert_true(both.gflop_per_pass > fresh.gflop_per_pass);
    assert_int_equal(fresh.process_bytes + fresh.data_bytes + fresh.base_bytes +
                         fresh.control_bytes + fresh.encoder_bytes + fresh.optimizer_bytes +
                         fresh.gradient_bytes + fresh.activation_bytes,
                     fresh.training_bytes);
    assert_true(cached.encoding_seconds > 0 && both.encoding_seconds == 0);
}

/* --- what is broken --------------------------------------------------------------------------- */

static void take_log(void *user, cn_log_level level, const char *line)
{
    if (level == CN_LOG_WARN && strstr(line, "05.txt")) (*(int *)user)++;
}

/* A caption that can't be read is met in the middle of the run: it ends there, or the next pair
 * takes its place. */
static void a_broken_caption_is_named(void **state)
{
    (void)state;
    char data[256], path[512], out[256];
    int named = 0;
    write_pairs("folders", ",", data);
    snprintf(path, sizeof path, "%s/images/05.txt", data);
    must(cn_file_write(ctx, path, "a\0b", 3));
    path_in(out, "broken-caption");
    cn_train_options o = shuffled(data, out);
    o.proportion_empty_prompts = 0;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EFORMAT, "05.txt");
    o.skip_bad_data = true;
    cn_ctx_set_log(ctx, take_log, &named);
    must(cn_train(ctx, &o, NULL, NULL));
    cn_ctx_set_log(ctx, NULL, NULL);
    assert_true(named > 0);
}

static void options_that_contradict_are_refused(void **state)
{
    (void)state;
    char out[256];
    path_in(out, "refused");
    cn_train_options o = shuffled(scenes, out);
    o.cache_text = true;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--no-cache-text");
    o.cache_text = false;
    o.caption_separator = "";
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--caption-separator");
    o = options_for(scenes, out);
    o.keep_tokens = 1;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--shuffle-caption");
    o.keep_tokens = 0;
    o.caption_tag_dropout_rate = 1.5;
    refused(cn_train(ctx, &o, NULL, NULL), CN_EINVAL, "--caption-tag-dropout-rate 1.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_in_the_step_changes_nothing),
        cmocka_unit_test(every_layout_is_shuffled_alike),
        cmocka_unit_test(kept_tags_may_be_marked),
        cmocka_unit_test(tags_resume_exactly),
        cmocka_unit_test(texts_in_the_step_are_planned),
        cmocka_unit_test(a_broken_caption_is_named),
        cmocka_unit_test(options_that_contradict_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
