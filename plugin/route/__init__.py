"""From an alert to whom it goes and how it looks: topic filters, mail addresses, the allow-list. No effects."""

from plugin.route.address import check_pattern, parse_address, parse_mailbox, parse_recipient, quoted
from plugin.route.example import name_for
from plugin.route.recipients import RecipientFault, check_recipients, members
from plugin.route.routing import Directions, Rejected, Route, Routing
from plugin.route.topic_filter import check_filter, covers, matches

__all__ = [
    "Directions",
    "RecipientFault",
    "Rejected",
    "Route",
    "Routing",
    "check_filter",
    "check_pattern",
    "check_recipients",
    "covers",
    "matches",
    "members",
    "name_for",
    "parse_address",
    "parse_mailbox",
    "parse_recipient",
    "quoted",
]
