/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - TensorBoard's event files, written record by record.
 *
 * A file events.out.tfevents.SECONDS.HOST.PID holds TFRecords (length, its masked CRC-32C, bytes,
 * their masked CRC-32C), each one Event message of TensorBoard's event.proto in protobuf's wire
 * format. A record is on disk as soon as it is written. Left out: histograms, graphs,
 * hyperparameters.
 */
#ifndef CN_IO_EVENTS_H
#define CN_IO_EVENTS_H

#include "base/base.h"

typedef struct cn_events cn_events;

/* A new file in dir, which is made. first_step > 0: what earlier files have from this step on is
 * void (a resumed run takes those steps again). */
cn_status cn_events_open(cn_ctx *ctx, const char *dir, int64_t first_step,
                         cn_events **out) CN_CHECKED;
void cn_events_close(cn_events *e);
cn_status cn_events_scalar(cn_events *e, const char *tag, int64_t step, double value) CN_CHECKED;
/* A picture of width x height pixels as PNG's n bytes. */
cn_status cn_events_png(cn_events *e, const char *tag, int64_t step, const uint8_t *png, size_t n,
                        int64_t width, int64_t height) CN_CHECKED;

/* CRC-32C (Castagnoli), masked as TFRecord wants it. */
uint32_t cn_masked_crc32c(const void *bytes, size_t n);

#endif
