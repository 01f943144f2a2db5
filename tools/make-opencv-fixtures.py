#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/opencv, computed with OpenCV from the formulas of what our kinds stand in for: a picture and
stable-diffusion-webui's scribble_xdog of it at two thresholds (8-bit products included), depth in metres with holes and the
normals that ControlNet 1.0 makes of such inverse depth, and the picture's lineart_standard. Needs numpy and opencv-python-headless from PyPI.

    tools/make-opencv-fixtures.py tests/golden/opencv
"""
import sys

import cv2
import numpy as np

out = sys.argv[1]
cv2.ipp.setUseIPP(False)
r = np.random.default_rng(5)


def xdog():
    picture = cv2.resize(r.integers(0, 256, (6, 8, 3), dtype=np.uint8), (72, 56), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture.astype(int) + r.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
    cv2.line(picture, (5, 50), (60, 3), (255, 255, 255), 9)
    cv2.line(picture, (8, 50), (63, 3), (0, 0, 0), 2)  # dark on light enough to pass 128
    fine = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5)
    coarse = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 5.0)
    light = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
    twice = np.uint8(2) * (np.uint8(255) - light)
    cv2.imwrite(out + "/photo.png", picture[:, :, ::-1])
    for threshold in (32, 8):
        cv2.imwrite(f"{out}/xdog_{threshold}.png", np.where(twice > threshold, 255, 0).astype(np.uint8))
    print(int((255 - light.astype(int)).max()), "is xDoG's largest difference")


def normals(reach, alpha, background):
    metres = cv2.resize(r.uniform(2, 5, (5, 7)).astype(np.float32), (40, 32), interpolation=cv2.INTER_CUBIC)
    metres = (metres + r.normal(0, 0.02, metres.shape)).astype(np.float32)
    metres[4:12, 5:17] = 0  # nothing measured
    near = np.where(metres > 0, 1 / np.where(metres > 0, metres, 1).astype(np.float64), 0)
    depth = (near / near.max() * reach).astype(np.float32)
    share = (depth - depth.min()) / (depth - depth.min()).max()
    x = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3)
    y = cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3)
    x[share < background] = y[share < background] = 0
    normal = np.stack([x, y, np.full_like(x, alpha)], axis=2)
    normal /= np.sqrt(np.sum(normal * normal, axis=2, keepdims=True))
    np.save(out + "/depth.npy", metres)
    cv2.imwrite(out + "/normals.png", (normal * 127.5 + 127.5).clip(0, 255).astype(np.uint8)[:, :, ::-1])


def lineart_standard():
    picture = cv2.imread(out + "/photo.png").astype(np.float32)
    intensity = np.min(cv2.GaussianBlur(picture, (0, 0), 6.0) - picture, axis=2).clip(0, 255)
    intensity /= max(16, np.median(intensity[intensity > 8]))
    intensity *= 127
    cv2.imwrite(out + "/lineart_standard.png", intensity.clip(0, 255).astype(np.uint8))


xdog()
lineart_standard()
normals(reach=40, alpha=6.25, background=0.3)
