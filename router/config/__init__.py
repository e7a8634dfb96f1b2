"""The configuration file: read strictly, checked, and every problem named with its line. Starts nothing."""
