/* controlnet.h - ControlNet in C: the only public header.
 *
 * A context (cn_ctx) carries the last error, the number of threads and where log lines go. Every call
 * that can fail returns cn_status; the message is in cn_error(ctx): what was wrong, where, and what
 * would be right. The library never prints, exits or aborts on input. Images are RGB, 8 bits, rows from
 * the top, H x W x 3. Sizes in bytes are size_t, dimensions int64_t.
 */
#ifndef CONTROLNET_H
#define CONTROLNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CN_VERSION "0.1.0"

typedef enum cn_status {
    CN_OK = 0,
    CN_EINVAL,     /* an argument or a combination of them is wrong */
    CN_EIO,        /* the system said no: file missing, disk full, permission */
    CN_EFORMAT,    /* a file's content is not what it claims to be */
    CN_ENOMEM,     /* out of memory, or over the limit that was set */
    CN_EMISMATCH,  /* two things don't fit together: weights and network, ControlNet and base */
    CN_ECANCELLED, /* cn_cancel was called */
    CN_EINTERNAL   /* a bug here or in a library beneath */
} cn_status;

typedef enum cn_log_level { CN_LOG_INFO, CN_LOG_WARN } cn_log_level;

typedef struct cn_ctx cn_ctx;

/* threads: 0 = one per core. NULL when memory is out. */
cn_ctx *cn_ctx_create(int threads);
void cn_ctx_destroy(cn_ctx *ctx);
/* The last failed call's message, "" if none. Valid until the next call on ctx. */
const char *cn_error(const cn_ctx *ctx);
const char *cn_status_name(cn_status status);
/* Log lines (no newline at the end) go to fn; without one they are dropped. */
void cn_ctx_set_log(cn_ctx *ctx, void (*fn)(void *user, cn_log_level level, const char *line),
                    void *user);
/* Asks a running call to stop soon with CN_ECANCELLED. Safe from a signal handler. */
void cn_cancel(cn_ctx *ctx);

#ifdef __cplusplus
}
#endif
#endif
