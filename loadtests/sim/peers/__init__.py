"""Other routers' algorithms, written anew from their sources for comparison in virtual time. Not policies: they keep
their own state, and nothing of them is in the gateway."""
