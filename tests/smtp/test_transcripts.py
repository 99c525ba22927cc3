"""Every transcript, whole and one octet at a time (transcripts/README.md has the notation)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plugin.smtp.client import Client, Delivery, Envelope, RecipientResult, Settings
from tests.smtp.scripted import CONTENT, ScriptedRelay, Step, scripted_tls

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@dataclass
class Transcript:
    settings: dict[str, Any] = field(default_factory=dict)
    envelopes: list[Envelope] = field(default_factory=list)
    scripts: list[list[Step] | None] = field(default_factory=list)
    results: list[tuple[list[str], list[list[str]]]] = field(default_factory=list)


def _octets(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


class _Token:
    """An access token that does not change, and counts how often it was called useless."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.forgotten = 0

    def get(self) -> str:
        return self._token

    def forget(self) -> None:
        self.forgotten += 1


def _setting(name: str, value: str) -> tuple[str, Any]:
    match name:
        case "eager":
            return name, value == "yes"
        case "mechanisms" | "dsn":
            return name, tuple(value.split(","))
        case "token":
            return name, _Token(value)
        case _:
            return name, value


def read(path: Path) -> Transcript:
    transcript, content = Transcript(), CONTENT
    for line in path.read_text("ascii").splitlines():
        match line[:2], line[3:]:
            case (("" | "# " | "#"), _):
                pass
            case ("S:" | "S!" | "C:") as kind, text:
                script = transcript.scripts[-1]
                assert script is not None
                octets = {"<content>": CONTENT + b".\r\n", "<chunk>": CONTENT}.get(text) or _octets(text)
                octets += b"" if kind == "S!" or text in ("<content>", "<chunk>") else b"\r\n"
                script.append(Step("C" if kind == "C:" else "S", octets))
            case "= ", _:
                word, *rest = line[2:].split()
                match word:
                    case "settings":
                        transcript.settings = dict(_setting(*pair.split("=", 1)) for pair in rest)
                    case "content":
                        content = _octets(line.partition("content ")[2])
                    case "letter":
                        sender = "" if rest[0] == "<>" else rest[0]
                        transcript.envelopes.append(
                            Envelope(sender=sender, recipients=tuple(rest[1:]), content=content)
                        )
                    case "connect":
                        transcript.scripts.append([])
                    case "refuse":
                        transcript.scripts.append(None)
                    case "hangup" | "reset" | "silence" | "tls":
                        script = transcript.scripts[-1]
                        assert script is not None
                        script.append(Step("no tls" if rest else word))
                    case "result":
                        transcript.results.append((rest, []))
                    case "recipient":
                        transcript.results[-1][1].append(rest)
                    case _:
                        pytest.fail(f"{path.name}: {line}")
            case _:
                pytest.fail(f"{path.name}: {line}")
    assert len(transcript.results) == len(transcript.envelopes)
    assert transcript.envelopes
    return transcript


def _verdict(one: Delivery | RecipientResult) -> str:
    reply = "" if one.reply is None else str(one.reply.code)
    return "+".join(filter(None, (reply, "" if one.fault is None else one.fault.kind)))


def _seen(delivery: Delivery) -> dict[str, str]:
    return {
        "phase": delivery.phase,
        "verdict": _verdict(delivery),
        "greeting": str(delivery.greeting),
        "authenticated": "yes" if delivery.authenticated else "no",
        "tls": str(delivery.tls),
        "duplicate": "yes" if delivery.possible_duplicate else "no",
        "relay_refused": "yes" if delivery.relay_refused else "no",
    }


def _expected(phase: str, verdict: str, *pairs: str) -> dict[str, str]:
    refused = "yes" if phase in ("connect", "greeting", "hello", "tls", "auth") else "no"
    expected = {"phase": phase, "verdict": verdict, "greeting": "EHLO", "authenticated": "no", "tls": "None"}
    expected |= {"duplicate": "no", "relay_refused": refused}
    return expected | dict(pair.split("=", 1) for pair in pairs)


@pytest.mark.parametrize("chunk_bytes", [None, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, chunk_bytes: int | None) -> None:
    transcript = read(path)
    relay = ScriptedRelay(*transcript.scripts, chunk_bytes=chunk_bytes)
    settings = Settings(host="relay.test", helo_name="client.test", **transcript.settings)
    client = Client(relay.connect, settings, clock=relay.clock, secure=scripted_tls)
    deliveries = list(client.deliver(transcript.envelopes))
    client.close()
    relay.assert_played()

    for envelope, delivery, (result, recipients) in zip(
        transcript.envelopes, deliveries, transcript.results, strict=True
    ):
        assert _seen(delivery) == _expected(*result)
        shared = [[address, *result[:2]] for address in envelope.recipients]
        assert [[one.address, one.phase, _verdict(one)] for one in delivery.recipients] == (recipients or shared)
        for secret in (transcript.settings.get("password"), "AGFsaWNlAHNl", "c2VjcmV0"):
            assert secret is None or secret not in repr(delivery)
        assert "Hello." not in repr(delivery.transcript)


def test_the_notation_is_told_and_used() -> None:
    assert len(TRANSCRIPTS) > 60
