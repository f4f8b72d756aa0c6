"""Latency models fitted on a table: regression over a roofline and Gaussian processes."""
