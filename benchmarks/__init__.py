"""What django-kue costs, and what others cost: ``make bench``."""
