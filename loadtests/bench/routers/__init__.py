"""This gateway and other routers: how each is started, measured and reported."""
