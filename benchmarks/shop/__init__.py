"""A small Django project, like those of people who choose between these queues."""
