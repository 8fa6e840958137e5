"""``docs/how-to/deploy.md``: its unit is one that systemd takes, its YAML and its commands are right."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from django_kue.management.commands.runworker import Command
from tests.run_page import ROOT, blocks

PAGE = blocks(ROOT / "docs/how-to/deploy.md")
INSTRUCTIONS = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}


def of_language(language: str) -> list[str]:
    return [block.code for block in PAGE if block.language == language]


@pytest.fixture
def unit() -> str:
    [text] = of_language("ini")
    return text


@pytest.fixture
def dockerfile() -> str:
    [text] = of_language("dockerfile")
    return text


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load(of_language("yaml")[0])


@pytest.fixture
def pod() -> Any:
    deployment = yaml.safe_load(of_language("yaml")[1])
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    return deployment["spec"]["template"]["spec"]


def options_of(command: list[str]) -> argparse.Namespace:
    """As the worker reads them; a wrong one ends the test."""
    parser = argparse.ArgumentParser()
    Command().add_arguments(parser)
    return parser.parse_args(command[command.index("runworker") + 1 :])


def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there's no systemd-analyze on this machine")
    file = tmp_path / "shop-worker.service"
    file.write_text(unit.replace("/srv/shop/venv/bin/python", sys.executable).replace("/srv/shop", "/"))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False
    )

    told = [line for line in run.stderr.splitlines() if "shop-worker" in line]
    assert (run.returncode, told) == (0, [])


def test_systemd_waits_longer_than_the_worker_does(unit: str) -> None:
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")

    assert int(settings["TimeoutStopSec"]) > options_of(shlex.split(settings["ExecStart"])).shutdown_timeout


def test_the_image_starts_the_worker_without_a_shell(dockerfile: str) -> None:
    lines = [line for line in dockerfile.splitlines() if line and line[0] != "#"]
    command = json.loads(lines[-1].removeprefix("CMD "))

    assert {line.split()[0] for line in lines} <= INSTRUCTIONS
    assert options_of(command).liveness_file == "/tmp/alive"


def test_compose_waits_longer_than_the_worker_does_and_looks_at_its_file(
    compose: Any, dockerfile: str
) -> None:
    worker = compose["services"]["worker"]
    [command] = re.findall(r"^CMD (.*)$", dockerfile, re.M)
    options = options_of(json.loads(command))

    assert int(worker["stop_grace_period"].removesuffix("s")) > options.shutdown_timeout
    assert options.liveness_file in worker["healthcheck"]["test"][-1]
    assert set(worker["depends_on"]) <= compose["services"].keys()


def test_kubernetes_waits_longer_than_the_worker_does_and_looks_at_its_file(pod: Any) -> None:
    [container] = pod["containers"]
    options = options_of(container["command"])

    assert pod["terminationGracePeriodSeconds"] > options.shutdown_timeout
    assert options.liveness_file in container["livenessProbe"]["exec"]["command"][-1]
    assert options.processes * options.max_memory < mebibytes(container["resources"]["limits"]["memory"])


def mebibytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_the_probe_tells_a_worker_that_is_well_from_one_that_hangs(pod: Any, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    probe = [word.replace("/tmp/alive", str(file)) for word in probe_of(pod)]

    assert subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode != 0
    file.touch()
    assert subprocess.run(probe, check=False).returncode == 0
    subprocess.run(["touch", "-d", "2 minutes ago", file], check=True)
    assert subprocess.run(probe, check=False).returncode != 0


def probe_of(pod: Any) -> list[str]:
    command: list[str] = pod["containers"][0]["livenessProbe"]["exec"]["command"]
    return command
