"""JSON schemas of the service's requests and responses."""
