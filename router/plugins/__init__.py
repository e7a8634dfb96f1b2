"""Policies from plugin files: how a file is found, checked, loaded and offered, and how long its picks may take."""
