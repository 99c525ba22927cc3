"""Prints what Home Assistant would install at run time for the integrations named, and for those of every start.

Runs with the interpreter that has Home Assistant:   python requirements.py mqtt recorder
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import homeassistant
from homeassistant.auth.mfa_modules import totp
from homeassistant.bootstrap import CORE_INTEGRATIONS, DEFAULT_INTEGRATIONS
from homeassistant.scripts import check_config

components = Path(homeassistant.__file__).parent / "components"
todo = [*sys.argv[1:], *CORE_INTEGRATIONS, *DEFAULT_INTEGRATIONS]
seen: set[str] = set()
wanted: set[str] = {*totp.REQUIREMENTS, *check_config.REQUIREMENTS}  # these two are no integrations
while todo:
    domain = todo.pop()
    if domain not in seen:
        seen.add(domain)
        manifest = json.loads((components / domain / "manifest.json").read_text())
        wanted.update(manifest.get("requirements", []))
        # as Home Assistant itself does, also for what only orders the start
        todo += manifest.get("dependencies", []) + manifest.get("after_dependencies", [])
print("\n".join(sorted(wanted, key=str.lower)))
