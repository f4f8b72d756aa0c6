"""Runtimes execute model files: one module per runtime."""
