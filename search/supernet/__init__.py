"""The supernet: candidate paths, gates, narrowing."""
