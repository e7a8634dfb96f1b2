"""Does `turnout prove` find what it should, and only that? Seeded regressions, and runs of a version against itself."""
