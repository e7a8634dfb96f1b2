"""What an endpoint picker costs behind Envoy, beside the gateway on the same load."""
