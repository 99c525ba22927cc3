"""``python -m plugin`` is ``hardwire``."""

from plugin.cli import main

main(prog_name="hardwire")
