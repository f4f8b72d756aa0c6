"""Device cards that we ship, as data."""
