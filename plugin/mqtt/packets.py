"""Between paho's values and ours: how its client is set up, and what its packets say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.subscribeoptions import SubscribeOptions

from plugin.alert import Message, Properties
from plugin.mqtt.outgoing import Publication
from plugin.mqtt.settings import Settings

MAX_USER_PROPERTIES: Final = 100
MAX_PROPERTY_CHARS: Final = 8192
MAX_CONTENT_TYPE_CHARS: Final = 255


def new_client(settings: Settings) -> Client:
    """Return paho's client as ``settings`` want it, not connected. Raises ValueError for unusable TLS files."""
    five = settings.protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=None if five else False,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,  # otherwise paho falls back to MQTT 3.1 by itself, in the middle of a callback
        manual_ack=True,
    )
    client.connect_timeout = settings.connect_timeout_s
    client.max_inflight_messages = 0  # the window is kept by us: paho disregards its own after a reconnection
    if settings.onlooker is None:
        client.will_set(settings.state_topic, b"offline", qos=1, retain=True)
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password)
    if settings.tls is not None:
        client.tls_set_context(settings.tls.context())
    properties = None
    if five:
        properties = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
    client.connect_async(
        settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
    )
    return client


def subscribe(client: Client, settings: Settings) -> int | None:
    """Send SUBSCRIBE for ``subscriptions``; return its packet identifier, None without a connection.

    Retained copies are not asked for (Retain Handling 2, MQTT 5 §3.8.3.1). A shared subscription never gets any
    (§4.8.2), so there the option stays at its default. 3.1.1 cannot say it: its copies come marked as retained.
    """
    if settings.unwatched:  # the session may have it from an earlier configuration
        client.unsubscribe(list(settings.unwatched))
    if settings.protocol == "5":
        return client.subscribe([(one, _options(one, qos)) for one, qos in subscriptions(settings)])[1]
    return client.subscribe(subscriptions(settings))[1]


def subscriptions(settings: Settings) -> list[tuple[str, int]]:
    """Return the topic filters in their order, each with its QoS: alerts, requests, and what is watched.

    What is watched means something at the moment alone: the broker is not to keep it for us.
    """
    kept = [(one, 1) for one in (settings.subscription, settings.requests) if one is not None]
    return kept + [(one, 0) for one in settings.watched]


def _options(topic_filter: str, qos: int) -> SubscribeOptions:
    shared = topic_filter.startswith("$share/")
    return SubscribeOptions(qos=qos, retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if shared else 2)


def message_of(received: MQTTMessage, connection: int) -> Message:
    """Return ``received`` as our value, its properties bounded; UnicodeDecodeError if the topic is not UTF-8."""
    return Message(
        topic=received.topic,
        payload=bytes(received.payload),
        qos=received.qos,
        retain=received.retain,
        dup=received.dup,
        packet_id=received.mid,
        connection=connection,
        properties=_properties_of(received.properties),
        received_at=datetime.now(UTC),
    )


def _properties_of(received: PahoProperties | None) -> Properties:
    if received is None:
        return Properties()
    content_type = getattr(received, "ContentType", None)
    pairs = getattr(received, "UserProperty", [])[:MAX_USER_PROPERTIES]
    return Properties(
        content_type=content_type[:MAX_CONTENT_TYPE_CHARS] if content_type else None,
        response_topic=getattr(received, "ResponseTopic", None),
        correlation_data=getattr(received, "CorrelationData", None),
        user_properties=tuple((name[:MAX_PROPERTY_CHARS], value[:MAX_PROPERTY_CHARS]) for name, value in pairs),
    )


def publish_properties(publication: Publication, settings: Settings) -> PahoProperties | None:
    """Return the properties that ``publication`` goes out with; MQTT 3.1.1 has none."""
    if publication.correlation is None or settings.protocol != "5":
        return None
    properties = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = publication.correlation
    return properties


def reason_string(properties: PahoProperties | None) -> str | None:
    """Return the broker's own words (Reason String, MQTT 5 §3.2.2.3.9), if it has any."""
    return getattr(properties, "ReasonString", None)
