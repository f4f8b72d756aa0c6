"""Network architecture search under a latency budget."""
