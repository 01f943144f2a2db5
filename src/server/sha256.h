/* SPDX-License-Identifier: Apache-2.0 */
/* sha256.h - FIPS 180-4's SHA-256: models' short names, and keys compared without their lengths. */
#ifndef CN_SERVER_SHA256_H
#define CN_SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32 };

void sha256(const void *bytes, size_t n, uint8_t out[SHA256_BYTES]);

#endif
