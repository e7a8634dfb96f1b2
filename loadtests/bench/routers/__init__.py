"""This gateway beside other routers: how each is started, measured and shown."""
