"""How far chance goes: margins of assertions on what is drawn, computed from how much was drawn."""

from __future__ import annotations

import math


def five_deviations(draws: int, share: float) -> float:
    """Five standard deviations of how often something of this probability comes up in so many draws (a binomial)."""
    return 5 * math.sqrt(draws * share * (1 - share))
