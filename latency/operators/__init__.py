"""Operators: the spec, the kinds and the layers each is made of, cells, networks, features."""
