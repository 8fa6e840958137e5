"""A small Django project: what people have who would choose between these queues."""
