"""The `lat-*` commands."""
