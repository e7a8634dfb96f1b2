"""Policies swapped again and again under load: what a swap costs, and whether it loses anything."""
