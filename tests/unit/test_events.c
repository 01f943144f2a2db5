/* SPDX-License-Identifier: Apache-2.0 */
/* test_events.c - TensorBoard's event files byte by byte, and what a run writes into them. */
#include "../support/unit/tiny_run.h"
#include "image/image.h"
#include "io/events.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    (void)state;
    return tiny_open(1);
}

/* The only file of a folder; free *bytes with cn_free. */
static size_t read_only_file(const char *dir, char **bytes)
{
    char path[512] = "";
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        assert_true(!path[0] && strncmp(e->d_name, "events.out.tfevents.", 20) == 0);
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    }
    closedir(d);
    must(cn_file_read(ctx, path, 1 << 26, bytes, &n));
    return n;
}

/* The message of the record at `at`, its length and both sums checked; moves `at` behind it. */
static const uint8_t *next_record(const char *bytes, size_t n, size_t *at, size_t *length)
{
    uint64_t len;
    uint32_t crc;
    assert_true(*at + 12 <= n);
    memcpy(&len, bytes + *at, sizeof len);
    memcpy(&crc, bytes + *at + 8, sizeof crc);
    assert_int_equal(crc, cn_masked_crc32c(bytes + *at, 8));
    assert_true(*at + 16 + len <= n);
    const char *message = bytes + *at + 12;
    memcpy(&crc, message + len, sizeof crc);
    assert_int_equal(crc, cn_masked_crc32c(message, (size_t)len));
    *at += 16 + (size_t)len;
    *length = (size_t)len;
    return (const uint8_t *)message;
}

static bool contains(const uint8_t *bytes, size_t n, const void *part, size_t m)
{
    return memmem(bytes, n, part, m) != NULL;
}

/* RFC 3720's check value, 0xe3069283, masked. */
static void the_sum_is_castagnolis(void **state)
{
    (void)state;
    const uint32_t crc = 0xe3069283u;
    assert_int_equal(cn_masked_crc32c("123456789", 9), (crc >> 15 | crc << 17) + 0xa282ead8u);
}

static void records_are_events(void **state)
{
    (void)state;
    char dir[128], *bytes = NULL;
    cn_events *e = NULL;
    cn_image *image = NULL;
    uint8_t *png = NULL;
    size_t at = 0, len = 0, n_png = 0;
    snprintf(dir, sizeof dir, "%s/logs", root);
    must(cn_events_open(ctx, dir, 301, &e));
    must(cn_events_scalar(e, "train/loss", 300, 0.5));
    must(cn_image_create(ctx, 3, 2, &image));
    must(cn_png_encode(ctx, image, NULL, &png, &n_png));
    must(cn_events_png(e, "validation/0", 300, png, n_png, image->width, image->height));
    cn_image_destroy(image);
    cn_free(png);
    cn_events_close(e);
    const size_t n = read_only_file(dir, &bytes);
    const uint8_t *m = next_record(bytes, n, &at, &len);
    assert_int_equal(m[0], 1 << 3 | 1); /* wall time, a double */
    assert_memory_equal(m + 9,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);
    assert_int_equal(len, 24);
    m = next_record(bytes, n, &at, &len); /* step 301 = 0xad 0x02; session log { status: START } */
    assert_memory_equal(m + 9, "\x10\xad\x02\x3a\x02\x08\x01", 7);
    m = next_record(bytes, n, &at, &len);
    static const uint8_t scalar[] = {
        0x10, 0xac, 0x02,                                               /* step 300 */
        0x2a, 0x13,                                                     /* summary, 19 bytes */
        0x0a, 0x11,                                                     /* value, 17 bytes */
        0x0a, 0x0a, 't',  'r',  'a', 'i', 'n', '/', 'l', 'o', 's', 's', /* tag */
        0x15, 0x00, 0x00, 0x00, 0x3f                                    /* 0.5 */
    };
    assert_int_equal(len, 9 + sizeof scalar);
    assert_memory_equal(m + 9, scalar, sizeof scalar);
    m = next_record(bytes, n, &at, &len);
    assert_true(contains(m, len, "\x08\x02\x10\x03\x18\x03\x22", 7)); /* 2 x 3, 3 colours, PNG */
    assert_true(contains(m, len, "\x89PNG", 4));
    assert_int_equal(at, n);
    cn_free(bytes);
}

/* A run's numbers under their names. */
static void a_run_is_reported(void **state)
{
    (void)state;
    char out[256], logs[256], *bytes = NULL;
    static const char *const tags[] = {"train/loss",
                                       "train/lr",
                                       "train/grad_norm",
                                       "validation/loss_with_control",
                                       "validation/agreement_with_control",
                                       "validation/zero_conv_rms/00",
                                       "validation/0"};
    path_in(out, "out");
    path_in(logs, "out/logs");
    cn_train_options o = tiny_options(out);
    o.max_train_steps = 3;
    o.validation_steps = 3;
    o.validation_count = 2;
    o.validation_sampling_steps = 2;
    o.report_to = "tensorboard";
    must(cn_train(ctx, &o, NULL, NULL));
    const size_t n = read_only_file(logs, &bytes);
    for (size_t i = 0; i < CN_COUNT(tags); i++) {
        int found = 0;
        for (size_t at = 0, len = 0; at < n;) {
            const uint8_t *m = next_record(bytes, n, &at, &len);
            char tag[64];
            const int size = snprintf(tag, sizeof tag, "\x0a%c%s", (char)strlen(tags[i]), tags[i]);
            found += contains(m, len, tag, (size_t)size);
        }
        if (found != (strncmp(tags[i], "train", 5) == 0 ? 3 : 1))
            fail_msg("%s: %d times", tags[i], found);
    }
    cn_free(bytes);
    o.report_to = "wandb";
    assert_int_equal(cn_train(ctx, &o, NULL, NULL), CN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_castagnolis),
        cmocka_unit_test(records_are_events),
        cmocka_unit_test(a_run_is_reported),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
