"""What all reports share: tables, medians and spreads, the machine's facts, and the files. It measures nothing."""
