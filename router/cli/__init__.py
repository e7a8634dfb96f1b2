"""The `turnout` command: its arguments and its output. Nothing is decided here."""
