"""The Redis users that the documentation gives, to run tests as one of them: ``KUE_TEST_ACL=kue-worker``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "redis-users.md"
WANTED = os.environ.get("KUE_TEST_ACL")


def users() -> dict[str, list[str]]:
    """The rules of each user on the page, its password first."""
    return {
        name: rules.split() for name, rules in re.findall(r"^user (\S+) on (.+)$", PAGE.read_text(), re.M)
    }


def commands(user: str) -> set[str]:
    """What a user may call."""
    return {rule[1:] for rule in users()[user] if rule.startswith("+")}


def let_in(client: Any, user: str, url: str) -> str:
    """Make the user known to a server; the URL to come as."""
    rules = users()[user]
    client.execute_command("ACL", "SETUSER", user, "reset", "on", *rules)
    version = client.info("server")["redis_version"].split(".")
    if [int(part) for part in version[:2]] >= [7, 2]:  # Valkey says 7.2.4 there
        client.execute_command("ACL", "SETUSER", user, "+client|setinfo")
    client.acl_log_reset()
    return url.replace("://", f"://{user}:{rules[0].removeprefix('>')}@", 1)


def refused(client: Any) -> list[str]:
    """What users were refused since the last time."""
    found = [f"{one['username']}: {one['reason']} {one['object']}" for one in client.acl_log()]
    client.acl_log_reset()
    return found
