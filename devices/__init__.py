"""Measuring operators and networks on devices: transports x runtimes."""
