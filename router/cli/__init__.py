"""The `turnout` command: what is typed, what is printed. Nothing is decided here."""
