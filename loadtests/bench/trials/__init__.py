"""Canaries in virtual time: how often the guard takes back a sound one, and how soon a bad one."""
