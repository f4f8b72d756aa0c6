"""Training: optimizer, compute device, distributed processes, checkpoints."""
