"""The report of a latency table."""
