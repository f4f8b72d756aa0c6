"""How a device is reached: one file a way."""
