#!/usr/bin/env python3
"""Writes tests/golden/xdog: a picture and what stable-diffusion-webui's scribble_xdog makes of it at two
thresholds, computed with OpenCV from its formula (8-bit products included). Needs numpy and
opencv-python-headless from PyPI.

    tools/make-xdog-fixtures.py tests/golden/xdog
"""
import sys

import cv2
import numpy as np

cv2.ipp.setUseIPP(False)
r = np.random.default_rng(5)
picture = cv2.resize(r.integers(0, 256, (6, 8, 3), dtype=np.uint8), (72, 56), interpolation=cv2.INTER_CUBIC)
picture = np.clip(picture.astype(int) + r.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
cv2.line(picture, (5, 50), (60, 3), (255, 255, 255), 9)
cv2.line(picture, (8, 50), (63, 3), (0, 0, 0), 2)  # dark on light enough to pass 128
fine = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5)
coarse = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 5.0)
light = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
twice = np.uint8(2) * (np.uint8(255) - light)
cv2.imwrite(sys.argv[1] + "/in.png", picture[:, :, ::-1])
for threshold in (32, 8):
    cv2.imwrite(f"{sys.argv[1]}/out_{threshold}.png", np.where(twice > threshold, 255, 0).astype(np.uint8))
print(int((255 - light.astype(int)).max()), "is the largest difference")
