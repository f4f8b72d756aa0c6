"""Broken input of every kind, and what becomes of it: `damage` breaks files, each kind of `kinds`
is one sort of file and who reads it, `worker` tries, and `trying` watches over the worker."""
