"""The admin's pages over Redis. Each ``…AdminMixin`` also goes with a theme's own ``ModelAdmin``."""
