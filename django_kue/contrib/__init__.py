"""Doors to what other projects watch services with. Nothing here is imported unless you name it."""
