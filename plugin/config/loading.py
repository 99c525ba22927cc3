"""Reading the configuration: the file, its types, its sense; all that is wrong comes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from plugin.config.checks import check
from plugin.config.document import read
from plugin.config.faults import ConfigError, Finding
from plugin.config.model import Config
from plugin.config.sentences import explain, sound
from plugin.config.values import FOLDER


def load(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    template_names: Callable[[Path | None], Collection[str]] | None = None,
) -> Config:
    """Return the configuration in the file ``path``; relative paths in it start at its folder.

    ``template_names`` tells which templates there are, given ``templates_dir``; with it, routes with unknown
    templates are faults too. Raises ConfigError with all faults.
    """
    document = read(path, os.environ if environ is None else environ)
    data = {} if document.data is None else document.data
    if document.data is None and document.faults:
        raise ConfigError(document.faults)
    folder = path.absolute().parent
    config: Config | None = None
    findings: list[Finding] = []
    try:
        config = Config.model_validate(data, context={FOLDER: folder})
    except ValidationError as error:
        findings += explain(error, data)
    # not raised within "except": the errors of pydantic hold the values, and a traceback must not show secrets
    data = sound(data, {finding.path for finding in findings})
    names = None
    if template_names is not None:
        templates_dir = data.get("templates_dir")
        names = template_names(folder / templates_dir if isinstance(templates_dir, str) else None)
    findings += check(data, folder=folder, template_names=names)
    faults = document.faults + [document.fault(one.path, one.text) for one in findings if not one.warning]
    if faults or config is None:
        raise ConfigError(faults)
    return config.read_from(folder, tuple(document.fault(one.path, one.text) for one in findings if one.warning))
