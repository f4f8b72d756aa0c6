"""The suite of kernels: which are measured, alone and traced inside networks."""
