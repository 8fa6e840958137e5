"""Exit codes of a child, for its supervisor. Not 0: a job's ``os._exit(0)`` isn't an orderly end."""

STOPPED, BURST_OVER, REPLACE_ME, ORPHANED = 50, 51, 52, 53
BROKEN = 55  # its own loop broke
GUTTED = 54  # a job closed or replaced this process's file descriptors
