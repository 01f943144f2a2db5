/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - see events.h. Field numbers are those of tensorboard/compat/proto: event.proto,
 * summary.proto. */
#include "io/events.h"

#include "base/sys.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types */
enum { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION = 7 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SCALAR = 2, VALUE_IMAGE = 4 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLOURS = 3, IMAGE_PNG = 4 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };

struct cn_events {
    cn_ctx *ctx;
    FILE *f;
    char path[CN_PATH_BYTES];
};

uint32_t cn_masked_crc32c(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* --- protobuf --------------------------------------------------------------------------------- */

static void put_varint(cn_str *s, uint64_t v)
{
    do {
        const char byte = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        cn_str_add(s, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_int(cn_str *s, int field, int64_t v)
{
    put_varint(s, (uint64_t)field << 3 | VARINT);
    put_varint(s, (uint64_t)v);
}

static void put_double(cn_str *s, int field, double v)
{
    put_varint(s, (uint64_t)field << 3 | FIXED64);
    cn_str_add(s, (const char *)&v, sizeof v);
}

static void put_float(cn_str *s, int field, float v)
{
    put_varint(s, (uint64_t)field << 3 | FIXED32);
    cn_str_add(s, (const char *)&v, sizeof v);
}

static void put_bytes(cn_str *s, int field, const void *bytes, size_t n)
{
    put_varint(s, (uint64_t)field << 3 | BYTES);
    put_varint(s, n);
    cn_str_add(s, bytes, n);
}

/* --- records ---------------------------------------------------------------------------------- */

static cn_status write_record(cn_events *e, const cn_str *message)
{
    const uint64_t n = message->len;
    const uint32_t length_crc = cn_masked_crc32c(&n, sizeof n);
    const uint32_t crc = cn_masked_crc32c(message->data, message->len);
    const bool ok = fwrite(&n, sizeof n, 1, e->f) == 1 &&
                    fwrite(&length_crc, sizeof length_crc, 1, e->f) == 1 &&
                    fwrite(message->data, message->len, 1, e->f) == 1 &&
                    fwrite(&crc, sizeof crc, 1, e->f) == 1 && fflush(e->f) == 0;
    if (ok) return CN_OK;
    return cn_fail_io(e->ctx, "write", e->path, errno);
}

/* An Event with one further field of bytes. */
static cn_status write_event(cn_events *e, int64_t step, int field, const void *bytes, size_t n)
{
    struct timespec now;
    cn_str s = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    put_double(&s, EVENT_TIME, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    if (step) put_int(&s, EVENT_STEP, step);
    put_bytes(&s, field, bytes, n);
    const cn_status status = s.failed ? cn_fail(e->ctx, CN_ENOMEM, "out of memory for %s", e->path)
                                      : write_record(e, &s);
    cn_str_free(&s);
    return status;
}

/* A summary of one value, whose own field stands in `content`. */
static cn_status write_value(cn_events *e, const char *tag, int64_t step, const cn_str *content)
{
    cn_str value = {0}, summary = {0};
    put_bytes(&value, VALUE_TAG, tag, strlen(tag));
    cn_str_add(&value, content->data, content->len);
    put_bytes(&summary, SUMMARY_VALUE, value.data, value.len);
    const cn_status s = content->failed || value.failed || summary.failed
                            ? cn_fail(e->ctx, CN_ENOMEM, "out of memory for %s", e->path)
                            : write_event(e, step, EVENT_SUMMARY, summary.data, summary.len);
    cn_str_free(&value);
    cn_str_free(&summary);
    return s;
}

cn_status cn_events_scalar(cn_events *e, const char *tag, int64_t step, double value)
{
    cn_str content = {0};
    put_float(&content, VALUE_SCALAR, (float)value);
    const cn_status s = write_value(e, tag, step, &content);
    cn_str_free(&content);
    return s;
}

cn_status cn_events_png(cn_events *e, const char *tag, int64_t step, const uint8_t *png, size_t n,
                        int64_t width, int64_t height)
{
    cn_str content = {0}, message = {0};
    put_int(&message, IMAGE_HEIGHT, height);
    put_int(&message, IMAGE_WIDTH, width);
    put_int(&message, IMAGE_COLOURS, 3);
    put_bytes(&message, IMAGE_PNG, png, n);
    put_bytes(&content, VALUE_IMAGE, message.data, message.len);
    content.failed |= message.failed;
    const cn_status s = write_value(e, tag, step, &content);
    cn_str_free(&content);
    cn_str_free(&message);
    return s;
}

/* --- files ------------------------------------------------------------------------------------ */

static cn_status open_file(cn_events *e, const char *dir)
{
    char host[64] = "localhost";
    gethostname(host, sizeof host - 1);
    CN_TRY(cn_dir_make(e->ctx, dir));
    CN_TRY(cn_format(e->ctx, e->path, sizeof e->path, "%s/events.out.tfevents.%010lld.%s.%ld.0",
                     dir, (long long)time(NULL), host, (long)getpid()));
    return cn_file_append(e->ctx, e->path, false, &e->f);
}

cn_status cn_events_open(cn_ctx *ctx, const char *dir, int64_t first_step, cn_events **out)
{
    static const char version[] = "brain.Event:2";
    static const uint8_t start[] = {SESSION_STATUS << 3 | VARINT, SESSION_START};
    cn_events *e = cn_alloc0(ctx, sizeof *e);
    if (!e) return CN_ENOMEM;
    e->ctx = ctx;
    cn_status s = open_file(e, dir);
    if (s == CN_OK) s = write_event(e, 0, EVENT_VERSION, version, sizeof version - 1);
    if (s == CN_OK && first_step > 0)
        s = write_event(e, first_step, EVENT_SESSION, start, sizeof start);
    if (s != CN_OK) {
        cn_events_close(e);
        return s;
    }
    *out = e;
    return CN_OK;
}

void cn_events_close(cn_events *e)
{
    if (!e) return;
    if (e->f) fclose(e->f);
    cn_free(e);
}
