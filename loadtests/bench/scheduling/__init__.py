"""`make bench-scheduling`: the policies and other routers' algorithms on recorded traffic, in virtual time."""
