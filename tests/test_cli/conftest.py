"""What the commands' tests share with others."""

from tests.test_schedules.conftest import make_job

__all__ = ["make_job"]  # a fixture
