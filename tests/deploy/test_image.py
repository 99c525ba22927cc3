"""The Dockerfile and the files that its build is given."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")
]
FINAL = INSTRUCTIONS[max(index for index, line in enumerate(INSTRUCTIONS) if line.startswith("FROM")) :]
IGNORE = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def test_the_base_image_is_an_argument_with_a_pinned_python() -> None:
    assert INSTRUCTIONS[0] == "ARG BASE_IMAGE=python:3.11-slim-bookworm"
    assert {line.split()[1] for line in INSTRUCTIONS if line.startswith("FROM")} == {"${BASE_IMAGE}"}


def test_it_does_not_run_as_root() -> None:
    (user,) = (line.split()[1] for line in FINAL if line.startswith("USER"))
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "by number, so that an orchestrator can tell"
    assert f"--uid {user.split(':', maxsplit=1)[0]}" in DOCKERFILE


def test_it_stops_by_sigterm_and_keeps_its_data_on_volumes() -> None:
    assert "STOPSIGNAL SIGTERM" in FINAL
    assert 'VOLUME ["/config", "/data"]' in FINAL
    assert 'ENTRYPOINT ["hardwire"]' in FINAL


def test_whatever_comes_over_the_network_is_checked_by_its_hash() -> None:
    installs = [part for line in INSTRUCTIONS if line.startswith("RUN") for part in re.split(r"&&|;|\|\|", line)]
    installs = [part for part in installs if re.search(r"bin/pip .*\b(install|wheel)\b", part)]
    assert len(installs) == 6
    for part in installs:
        assert "--require-hashes" in part or "--no-index" in part, part


def test_compiler_and_build_backend_stay_behind() -> None:
    assert not [line for line in FINAL if "pip" in line or "apt-get" in line]
    assert [line for line in FINAL if line.startswith("COPY")] == [
        "COPY --from=builder /opt/hardwire /opt/hardwire"
    ]


def test_the_extras_of_the_build_argument_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (choices,) = re.findall(r'case "\$\{EXTRAS\}" in ""\|(\S+)\) ;;', DOCKERFILE)
    extras = {extra for choice in choices.split("|") for extra in choice.split(",")}
    assert extras == {"spi", "gpio"}
    lock = (ROOT / "requirements/board.lock").read_text()
    for extra in extras:
        for wanted in project["optional-dependencies"][extra]:
            assert f"\n{wanted.partition('>=')[0]}==" in lock


def test_what_compiles_spidev_is_held_by_a_hash() -> None:
    lock = (ROOT / "requirements/board-build.lock").read_text()
    requirements = re.findall(r"^[a-z0-9-]+==\S+(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", lock, re.MULTILINE)
    assert len(requirements) == lock.count("==") == 1


def let_in(path: str) -> bool:
    """Say whether the engine is given ``path``: the last pattern that fits a path or a folder above it decides."""
    parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    given = True
    for pattern in IGNORE:
        bare = pattern.removeprefix("!").removeprefix("**/")
        names = [Path(one).name for one in parents] if "**/" in pattern else parents
        if any(fnmatch(name, bare) for name in names):
            given = pattern.startswith("!")
    return given


@pytest.mark.parametrize(
    "path",
    [
        "secrets.yaml",
        ".git/config",
        "hardwire.db",
        ".venv/bin/python",
        "tests/x.py",
        "plugin/__pycache__/x.pyc",
        "demo-output/x",
    ],
)
def test_the_build_is_not_given(path: str) -> None:
    assert not let_in(path)


def test_the_build_is_given_what_it_copies() -> None:
    copied = [line.split()[1:-1] for line in INSTRUCTIONS if line.startswith("COPY") and "--from" not in line]
    files = {file for files in copied for file in files} - {"requirements"}
    assert files == {"pyproject.toml", "README.md", "LICENSE", "plugin"}
    locks = set(re.findall(r"requirements/[a-z-]+\.lock", DOCKERFILE))
    assert locks == {"requirements/run.lock", "requirements/board.lock", "requirements/board-build.lock"}
    for file in [*(files - {"plugin"}), *locks, "plugin/smtp/reply.py"]:
        assert (ROOT / file).is_file()
        assert let_in(file), file
