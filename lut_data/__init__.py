"""Lookup tables that our own profiler measured, as data."""
