"""Tensors that follow from their names, as cn_seed_tensor makes them."""
import numpy as np

GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def seeded(key, shape, offset, scale):
    """splitmix64 from FNV-1a of the key, its top 24 bits to [-1,1)."""
    h = 0xCBF29CE484222325
    for byte in key.encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    n = int(np.prod(shape))
    with np.errstate(over="ignore"):
        x = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(MIX1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(MIX2)
        x ^= x >> np.uint64(31)
    u = (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return (np.float32(offset) + np.float32(scale) * u).astype(np.float32).reshape(shape)
