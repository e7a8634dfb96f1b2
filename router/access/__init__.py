"""Who a client is and what it may: keys, tenants, identity. Imported by the data plane; knows no pod and no request."""
