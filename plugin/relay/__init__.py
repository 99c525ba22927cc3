"""The relays in their order: letters in, an Attempt for each out; and a memory of which are down."""

from plugin.relay.relays import Connect, Relay, Relays
from plugin.relay.standing import Standings

__all__ = ["Connect", "Relay", "Relays", "Standings"]
