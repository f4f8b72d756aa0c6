"""What executes a model file: one file a runtime."""
