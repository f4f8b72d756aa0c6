"""How a device is reached: one module per transport."""
