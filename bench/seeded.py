# SPDX-License-Identifier: Apache-2.0
"""Tensors that follow from their names, as cn_seed_tensor makes them; the generator is tools/seeds.py's."""
import os
import sys

import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from seeds import unit


def seeded(key, shape, offset, scale):
    return np.float32(offset) + np.float32(scale) * unit(key, shape)
