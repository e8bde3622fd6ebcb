"""Evidence from a Prometheus, and the series that it is given."""
