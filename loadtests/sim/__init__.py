"""Simulated engines and what is played on them: shipped with the package, for `turnout sim`, `simulate` and `demo`."""
