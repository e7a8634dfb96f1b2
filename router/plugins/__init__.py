"""Policies that are not the gateway's own: how a file of one is found, checked, offered, and watched as it decides."""
