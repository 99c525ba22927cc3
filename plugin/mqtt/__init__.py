"""The MQTT room, the only one that knows paho: a persistent session, acknowledgement by hand, Last Will.

``Mqtt`` owns the connection to one broker for the life of the process. ``settings`` says how it is to be made,
``faults`` puts what goes wrong into words; both are free of paho and of effects.
"""

from plugin.mqtt.client import Mqtt
from plugin.mqtt.settings import Settings, TlsSettings

__all__ = ["Mqtt", "Settings", "TlsSettings"]
