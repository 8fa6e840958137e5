"""``manage.py kue``: a module for each group of subcommands, and how they speak.

``arguments`` reads what people type; ``screen``, ``tables`` and ``text`` write what they see.
"""
