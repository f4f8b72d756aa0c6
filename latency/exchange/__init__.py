"""Tables of other projects, imported and exported."""
