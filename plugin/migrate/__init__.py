"""`hardwire migrate-notify-smtp`: Home Assistant's ``notify: platform: smtp`` becomes a configuration."""

from plugin.migrate.carrying import COMMENTS, Action, Migration, carry
from plugin.migrate.finding import Found, find
from plugin.migrate.legacy import Note, Notifier

__all__ = ["COMMENTS", "Action", "Found", "Migration", "Note", "Notifier", "carry", "find"]
