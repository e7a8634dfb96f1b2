"""The recording of the gateway's own traffic, for `turnout simulate`."""
