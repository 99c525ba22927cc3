"""The commands. Exit codes: 0 done, 1 failed for good, 2 wrong use, 75 put off, 78 wrong configuration."""

from plugin.cli.app import app_config
from plugin.cli.looking import check, probe
from plugin.cli.mailing import preview, send
from plugin.cli.migrating import migrate_notify_smtp
from plugin.cli.outbox import outbox
from plugin.cli.running import demo, run
from plugin.cli.shared import EXIT_CONFIG, EXIT_FAILED, EXIT_PUT_OFF, main
from plugin.cli.workbench import chip

__all__ = ["EXIT_CONFIG", "EXIT_FAILED", "EXIT_PUT_OFF", "main"]

for _command in (run, demo, check, probe, send, preview, outbox, chip, migrate_notify_smtp, app_config):
    main.add_command(_command)
