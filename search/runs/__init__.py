"""A search run, from its plan to its certificate."""
