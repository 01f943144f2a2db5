# SPDX-License-Identifier: Apache-2.0
"""Writes FILE (tests/golden/adam8.safetensors): five steps of AdamW with block-wise 8-bit moments, in numpy.

Usage: make-adam8-fixture.py FILE. The algorithm is that of bitsandbytes' 8-bit optimizers on a GPU, its maps come from
the package itself: moments are expanded, updated, used, divided by their block's largest magnitude and rounded to the
nearest value of the map, blocks of 256. As src/base/quant8.h says, second moments above 0 never become 0. (On the CPU
bitsandbytes 0.50 looks values up in a table of even spacing, which is coarse for the small ones.) Weights and gradients
follow from names (the same generator as cn_seed_tensor), gradients in blocks of different sizes.
"""
import sys
import numpy as np
from bitsandbytes.functional import create_dynamic_map
from safetensors.numpy import save_file

from seeds import unit

N, STEPS, BLOCK = 4268, 5, 256
LR, BETA1, BETA2, EPS, DECAY = 1e-2, 0.9, 0.999, 1e-8, 1e-2


def rounded(x, values, keep):
    """Codes and scales of x; with keep, what is above 0 gets at least the first code above 0's."""
    codes, scales = np.zeros(N, np.uint8), []
    for at in range(0, N, BLOCK):
        block = x[at:at + BLOCK]
        scales.append(np.abs(block).max())
        nearest = np.abs((block / scales[-1])[:, None].astype(np.float64) - values[None]).argmin(1)
        codes[at:at + BLOCK] = np.where(keep & (block > 0), np.maximum(nearest, 1), nearest)
    return codes, np.array(scales, np.float32)


f = np.float32
maps = [create_dynamic_map(signed).numpy() for signed in (True, False)]
weights, m, v = unit("weights", N), np.zeros(N, f), np.zeros(N, f)
of = np.arange(N) // BLOCK
for k in range(1, STEPS + 1):
    g = unit(f"g{k}", N)
    g = np.ldexp(g * g * g, -of).astype(f)
    m = f(BETA1) * m + (f(1) - f(BETA1)) * g
    v = f(BETA2) * v + (f(1) - f(BETA2)) * g * g
    weights = weights * f(1 - LR * DECAY)
    weights = weights - f(LR / (1 - BETA1**k)) * m / (np.sqrt(v / f(1 - BETA2**k)) + f(EPS))
    (mc, ms), (vc, vs) = rounded(m, maps[0], False), rounded(v, maps[1], True)
    m, v = maps[0][mc] * ms[of], maps[1][vc] * vs[of]
save_file({"weights": weights, "m": mc, "v": vc, "m.scale": ms, "v.scale": vs, "m.map": maps[0], "v.map": maps[1]},
          sys.argv[1])
