"""The roof: every `lat-*` command. Nothing below knows of them."""
