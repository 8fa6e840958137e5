"""A child's exit codes, for its supervisor. None is 0: a job's ``os._exit(0)`` isn't an orderly end."""

STOPPED, BURST_OVER, REPLACE_ME, ORPHANED = 50, 51, 52, 53
BROKEN = 55  # its fetch loop broke
GUTTED = 54  # a job closed or replaced this process's file descriptors
