"""Django's commands for the project that's measured."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.shop.kue_settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
