"""How the architecture is searched: one file a strategy."""
