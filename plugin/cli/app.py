"""``app-config``: the configuration of the app for Home Assistant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from plugin.cli.shared import EXIT_CONFIG, as_text, fail, read_config, tell_faults, tell_notes


@click.command("app-config", short_help="In the app for Home Assistant: options become hardwire.yaml.")
@click.option(
    "--options",
    "options_path",
    type=click.Path(readable=False, path_type=Path),
    default=Path("/data/options.json"),
    show_default=True,
    help="The options, as the Supervisor writes them.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/data"),
    show_default=True,
    help="Folder for hardwire.yaml and secrets.yaml; those of the last start are replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def app_config(options_path: Path, output: Path, as_json: bool) -> None:
    """Make hardwire.yaml and secrets.yaml of the app's options, and check them.

    Where the options name no broker, the Supervisor is asked for its own, with SUPERVISOR_TOKEN. The app runs this
    before the service; by hand it shows what comes of options.

    Example: hardwire app-config --options options.json --output .
    """
    from plugin.app import OptionsError, SupervisorError, configuration, mqtt_service, read_options, wants_service
    from plugin.app.options import COMMENTS
    from plugin.config import ConfigError
    from plugin.config.writing import CONFIGURATION_FILE, configuration_text, kept_in, replace_files, secrets_text

    try:
        options = read_options(options_path)
        service = mqtt_service(os.environ.get("SUPERVISOR_TOKEN", "")) if wants_service(options) else None
        made = configuration(options, service)
    except OptionsError as error:
        click.echo(f"hardwire: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    except SupervisorError as error:
        fail(str(error))
    files = replace_files(
        output,
        {
            "secrets.yaml": secrets_text(kept_in(made)),
            CONFIGURATION_FILE: configuration_text(made, comments=COMMENTS),
        },
    )
    try:
        config = read_config(files[1])
    except ConfigError as error:
        tell_faults(error)
        sys.exit(EXIT_CONFIG)
    broker = f"{config.mqtt.host}:{config.mqtt.port}"
    tell_notes(str(one) for one in config.warnings)
    if as_json:
        done: dict[str, Any] = {"files": [str(file) for file in files], "broker": broker}
        click.echo(as_text({**done, "from_supervisor": service is not None}))
    else:
        whose = "the Supervisor's" if service is not None else "of the options"
        click.echo(f"written: {files[1]}; broker {broker}, {whose}")
