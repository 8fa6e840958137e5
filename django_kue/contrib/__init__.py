"""Integrations with tools that watch services. Nothing here is imported unless you name it."""
