"""What TLS on the inference port costs, beside nginx."""
