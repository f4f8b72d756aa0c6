"""The kernel suite: kernels measured alone or traced inside networks."""
