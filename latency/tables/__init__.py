"""Latency tables: one CSV file per device setting, its rows, header and calibration."""
