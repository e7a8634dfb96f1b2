"""Writes the reference pages of docs/ that the sources determine: errors, metrics, commands, the control port's API."""
