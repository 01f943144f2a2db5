/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - what faults.c writes of a program's changes to files, for replay.c. */
#ifndef TEST_FAULTS_RECORD_H
#define TEST_FAULTS_RECORD_H

#include <stdint.h>

enum {
    RECORD_OPEN, /* that made or, with at != 0, emptied a file */
    RECORD_WRITE,
    RECORD_TRUNCATE,
    RECORD_SYNC,
    RECORD_SYNC_DIR,
    RECORD_RENAME,
    RECORD_EXCHANGE,
    RECORD_MKDIR,
    RECORD_UNLINK /* of a file or an empty folder */
};

/* Then `path` and `to` bytes of names, and `bytes` of what was written. */
typedef struct record_head {
    int64_t op, ino, at, bytes;
    int32_t path, to;
} record_head;

#endif
