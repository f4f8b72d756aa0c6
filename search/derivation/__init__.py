"""Deriving a network from the supernet: exact selection under a budget, evolution."""
