"""Margins for assertions on random draws, computed from the number of draws."""

from __future__ import annotations

import math


def five_deviations(draws: int, share: float) -> float:
    """Five standard deviations of the number of hits in `draws` draws of this probability (binomial)."""
    return 5 * math.sqrt(draws * share * (1 - share))
