"""Colours as eyes see them, those too that have two kinds of cones instead of three.

The matrices are those of G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for
Simulation of Color Vision Deficiency", IEEE TVCG 15(6), 2009, for severity 1.0, applied to linear light. How far two
colours are apart is their distance in Oklab (B. Ottosson, "A perceptual color space for image processing", 2020): 0.02
is just noticed where they touch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

EYES = {
    "three kinds of cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def light(colour: str) -> Vector:
    """#rrggbb as linear light: sRGB, IEC 61966-2-1."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def apart(first: str, second: str, eyes: str) -> float:
    """How far two colours are apart."""
    seen = [OKLAB @ np.cbrt(CONES @ np.clip(EYES[eyes] @ light(colour), 0, 1)) for colour in (first, second)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def contrast(first: str, second: str) -> float:
    """The contrast of two colours, from 1 to 21: WCAG 2.2."""
    bright, dark = sorted((float(light(each) @ (0.2126, 0.7152, 0.0722)) for each in (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
