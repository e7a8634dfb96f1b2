"""The endpoint picker: the gateway's decisions for Envoy, over ext_proc."""
