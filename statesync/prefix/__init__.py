"""Which pod holds which prompt prefix. In memory only."""
