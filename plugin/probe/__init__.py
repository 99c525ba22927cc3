"""``hardwire probe``: the SMTP dialogue by hand, up to where a letter could follow; none is sent."""

from plugin.probe.command import run_probe
from plugin.probe.target import WrongUse

__all__ = ["WrongUse", "run_probe"]
