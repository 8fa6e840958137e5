"""What django-kue and other queues cost: ``make bench``."""
