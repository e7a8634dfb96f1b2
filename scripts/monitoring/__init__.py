"""The Grafana dashboard and the Prometheus alerts, made from tables: `make monitoring`."""
