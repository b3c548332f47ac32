"""Drift made from real footage, documented and seeded: what a camera's picture becomes when its surroundings change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamkd.types import UInt8Array


@dataclass(frozen=True, slots=True)
class Dusk:
    """A camera at dusk: less light, lifted by the sensor's gain, which brings grain and loses colour.

    With `x` in 0..1: `gain * x ** gamma`, colour pulled towards grey, and Gaussian grain of every pixel added.

    Attributes:
        gain: Light that is left, in front of the gamma.
        gamma: Above 1: dark parts lose more than bright ones.
        grain: Standard deviation of the grain, on the scale 0..1.
        colour: Share of the colour that is left.
    """

    gain: float = 0.45
    gamma: float = 1.5
    grain: float = 0.04
    colour: float = 0.3

    def apply(self, rgb: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        """A picture `[..., 3]` uint8 as it would look at dusk.

        Args:
            rgb: The picture, or several.
            rng: Of the grain.
        """
        light = self.gain * (rgb.astype(np.float32) / 255.0) ** self.gamma
        grey = light.mean(axis=-1, keepdims=True)
        seen = grey + self.colour * (light - grey) + rng.normal(0.0, self.grain, light.shape).astype(np.float32)
        return np.asarray(np.clip(np.round(seen * 255.0), 0, 255), dtype=np.uint8)


__all__ = ["Dusk"]
