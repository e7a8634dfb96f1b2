"""Other routers' algorithms, written anew from their sources for comparison in virtual time. Not policies: they keep
their own state, and the gateway contains none of them."""
