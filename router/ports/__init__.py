"""How connections come to the gateway's ports: TLS and the PROXY protocol, before the first byte of HTTP."""
