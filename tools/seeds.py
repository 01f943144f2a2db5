# SPDX-License-Identifier: Apache-2.0
"""unit(key, shape): what cn_seed_tensor draws; the scripts beside it import this."""
import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def unit(key, shape):
    """float32 values in [-1, 1) that follow from the key: FNV-1a 64, then splitmix64's finaliser."""
    h = 0xCBF29CE484222325
    for b in key.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    n = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        x = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)).reshape(shape)
