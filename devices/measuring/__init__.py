"""Measuring: rounds, sessions, drift, the journal, traces."""
