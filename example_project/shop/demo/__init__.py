"""``manage.py demo``: the shop's background work, on real input, while you watch.

``servers``    the mail server and the partners' HTTP server, flaky on purpose
``processes``  the site and the worker, as processes of their own
``data``       the database, photos and clip that the jobs work on
``plan``       which jobs are enqueued, and how each is expected to end
``customer``   somebody who uses the page in a browser
``screen``     bars and lines in the terminal
``verify``     whether everything happened as expected
``show``       all of these, one after the other
"""
