"""``migrate-notify-smtp``: the way out of Home Assistant's ``notify: platform: smtp``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from plugin.cli.shared import EXIT_CONFIG, as_text, fail, read_config, tell_faults, tell_notes

if TYPE_CHECKING:
    from plugin.config import ConfigError
    from plugin.migrate import Action, Migration, Note

SECRETS_FILE: Final = "secrets.yaml"
_SECRETS_HEAD: Final = "# Lines `NAME: value`; hardwire.yaml names them by !secret NAME.\n"
_NOTHING: Final = (
    "there is no `notify:` block with `platform: smtp` in it or in what it includes; what was set up in the user "
    "interface is not in YAML: docs/from-notify-smtp.md tells how to write it down"
)


@click.command("migrate-notify-smtp", short_help="From Home Assistant's notify: platform: smtp.")
@click.argument("configuration", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for hardwire.yaml and secrets.yaml (the working folder). Nothing in it is overwritten.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all as one JSON object.")
def migrate_notify_smtp(configuration: Path, output: Path, as_json: bool) -> None:
    """Make hardwire.yaml and secrets.yaml of the smtp notifiers in Home Assistant's CONFIGURATION.

    Packages and includes are followed, secrets are looked up. What could not be carried over is told, what was
    written is checked, and the new action of each notifier is printed beside the old one.

    Example: hardwire migrate-notify-smtp /config/configuration.yaml --output /etc/hardwire
    """
    from plugin.config import CONFIGURATION_FILE, ConfigError, configuration_text, kept_in, secrets_text, write_new
    from plugin.migrate import COMMENTS, carry, find

    found = find(configuration, os.environ)
    if not found.notifiers:
        tell_notes(str(note) for note in found.notes)
        fail(f"{configuration}: {_NOTHING}")
    migration = carry(found.notifiers, allowed_dirs=found.allowed_dirs)
    secrets = {name: text for name, text in kept_in(migration.configuration).items() if text}
    texts = {
        CONFIGURATION_FILE: configuration_text(migration.configuration, comments=COMMENTS),
        SECRETS_FILE: _SECRETS_HEAD + (secrets_text(secrets) if secrets else ""),
    }
    try:
        files = write_new(output, texts)
    except FileExistsError as error:
        fail(f"{error.filename}: is there already, and nothing is overwritten; name another folder by --output")
    notes = (*found.notes, *migration.notes)
    wrong: ConfigError | None = None
    warnings: tuple[Any, ...] = ()
    try:
        warnings = read_config(files[0]).warnings
    except ConfigError as error:
        wrong = error
    if as_json:
        click.echo(as_text(_json(files, migration, notes, [*(wrong.faults if wrong else ()), *warnings])))
    else:
        _tell(files, migration, [*(str(note) for note in notes), *(str(one) for one in warnings)])
        if wrong is not None:
            tell_faults(wrong)
        else:
            click.echo(f"{files[0]}: sound; next: hardwire check --config {files[0]}")
    sys.exit(0 if wrong is None else EXIT_CONFIG)


def _tell(files: list[Path], migration: Migration, notes: list[str]) -> None:
    for file in files:
        click.echo(f"written: {file}")
    for one in migration.actions:
        click.echo("")
        click.echo("\n".join(_beside(one)))
    click.echo("")
    tell_notes(notes)


def _beside(action: Action) -> list[str]:
    """Return the lines of both actions, the old one on the left."""
    left = ["# before", *(f"- {action.before}".replace("\n", "\n  ").rstrip().split("\n"))]
    right = ["# now", *(f"- {action.after}".replace("\n", "\n  ").rstrip().split("\n"))]
    width = max(len(one) for one in left) + 4
    rows = max(len(left), len(right))
    left += [""] * (rows - len(left))
    right += [""] * (rows - len(right))
    return [f"{one:{width}}{two}".rstrip() for one, two in zip(left, right, strict=True)]


def _json(files: list[Path], migration: Migration, notes: tuple[Note, ...], findings: list[Any]) -> dict[str, Any]:
    return {
        "files": [str(file) for file in files],
        "notes": [{"place": one.place, "key": one.key, "text": one.text} for one in notes],
        "actions": [
            {"notifier": one.notifier, "before": one.before, "after": one.after} for one in migration.actions
        ],
        "findings": [{"place": one.place, "text": one.text} for one in findings],
    }
