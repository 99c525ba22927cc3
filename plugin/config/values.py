"""What single values of the configuration must be: pure functions from what YAML gives to what the rooms take.

Each raises ValueError with the end of a sentence that begins with the value: ``"02:08" is no MAC address: …``;
the value itself is put before it, or left out where it is a secret, by ``plugin.config.sentences``.
"""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import idna
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from plugin.route import check_filter, check_pattern, parse_mailbox

FOLDER: Final = "folder"
"""Key of the validation context: the folder of the configuration file, to which paths are relative."""

MAX_HOST_CHARS: Final = 253
MAX_COMMAND_WORDS: Final = 100

MODULE_FACTORY: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*", re.ASCII)
BUSES: Final = ("emulator", "spidev")

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS_BYTES: Final = {
    "": 1, "b": 1, "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ms|[smhdw])\s*)+", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ms|[smhdw])", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # with the underscore of container networks
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")
_HELO_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,255}|\[[A-Za-z0-9.:]{1,253}\]")


def parse_duration(value: Any) -> float:
    """Return seconds for ``24h``, ``1h30m``, ``500ms``, or a number (of seconds)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        if re.fullmatch(_NUMBER, value):
            return float(value)
        if _DURATION.fullmatch(value):
            return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(value))
    raise ValueError("is no duration: write a number with ms, s, m, h, d or w, such as 15m")


def parse_size(value: Any) -> int:
    """Return octets for ``10MiB`` (2^20), ``10MB`` (10^6), ``512k`` (2^10), or a number (of octets)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found and found[2].lower() in _UNITS_BYTES:
        return int(float(found[1]) * _UNITS_BYTES[found[2].lower()])
    raise ValueError("is no size: write a number of octets, or one with KiB, MiB or GiB, such as 10MiB")


def parse_mac(value: str) -> str:
    """Return a station's MAC in lower case with colons (IEEE 802: the lowest bit of the first octet is 0)."""
    if not _MAC.fullmatch(value):
        raise ValueError('is no MAC address: write six octets in quotes, such as "02:08:dc:01:02:03"')
    mac = value.lower().replace("-", ":")
    if int(mac[:2], 16) & 1:
        raise ValueError(
            "has an odd first octet, which makes it a group address that switches drop: begin with 02"
        )
    if mac == "00:00:00:00:00:00":
        raise ValueError("is no MAC address of a station: begin with 02")
    return mac


def parse_ipv4(value: Any) -> IPv4Address:
    """Return an IPv4 address that a station can have."""
    try:
        if isinstance(value, IPv4Address):
            return value
        address = IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("is no IPv4 address: write four numbers, such as 192.168.1.1") from None
    if address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255"):
        raise ValueError("is no IPv4 address of a station")
    return address


def parse_interface(value: Any) -> IPv4Interface:
    """Return an IPv4 address with the length of its network's prefix (CIDR, RFC 4632)."""
    if isinstance(value, IPv4Interface):
        return value
    text = value if isinstance(value, str) else ""
    if "/" not in text:
        raise ValueError("needs the length of the network's prefix: write it as in 192.168.1.50/24")
    try:
        interface = IPv4Interface(text)
    except ValueError:
        raise ValueError("is no IPv4 address with a prefix length: write it as in 192.168.1.50/24") from None
    parse_ipv4(str(interface.ip))
    network = interface.network
    if not 1 <= network.prefixlen <= 30:
        raise ValueError("must have a prefix length from 1 to 30")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError(f"is the first or last address of {network}, which no station can have")
    return interface


def _host(value: str) -> str:
    if ":" in value:
        raise ValueError("is no host: write the port under `port`; IPv6 is not known to the W5100")
    wrong = "is no host: write a name such as smtp.example.net, or an IPv4 address"
    if len(value) > MAX_HOST_CHARS:
        raise ValueError(wrong)
    if not value.isascii():
        value = _a_labels(value)
    if _DIGITS_AND_DOTS.fullmatch(value):
        return str(parse_ipv4(value))
    if len(value) > MAX_HOST_CHARS or not _HOST_NAME.fullmatch(value):
        raise ValueError(wrong)
    return value


def _a_labels(name: str) -> str:
    """Return an international name as DNS and certificates have it (RFC 5891), mapped as in browsers (UTS 46)."""
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        raise ValueError("cannot be a name in DNS: write its xn-- form, if it has one") from None


def _topic_prefix(value: str) -> str:
    if not value or len(value) > 200:
        raise ValueError("must have 1 to 200 characters")
    if wrong := check_filter(value):
        raise ValueError(f"cannot begin a topic: {wrong}")
    if "+" in value or "#" in value:
        raise ValueError("must not contain the wildcards + and #")
    if value.startswith("$"):
        raise ValueError("must not begin with $, which belongs to the broker")
    if value.startswith("/") or value.endswith("/"):
        raise ValueError("must not begin or end with /")
    return value


def _topic_filter(value: str) -> str:
    if wrong := check_filter(value):
        raise ValueError(f"is no topic filter: {wrong}")
    return value


def _pattern(value: str) -> str:
    if wrong := check_pattern(value):
        raise ValueError(f"cannot admit anyone: {wrong}")
    return value


def _mailbox(value: str) -> str:
    parse_mailbox(value)
    return value


def _bus(value: str) -> str:
    if value not in BUSES and not MODULE_FACTORY.fullmatch(value):
        raise ValueError("is no bus: write emulator, spidev, or module:factory such as my_adapter:open_bus")
    return value


def _label(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


def _client_id(value: str) -> str:
    if re.search("[/+#$]", value):
        raise ValueError("must not contain / + # $")
    return _label(value)


def _helo_name(value: str) -> str:
    if not _HELO_NAME.fullmatch(value):
        raise ValueError(
            "is no name for EHLO: write a host name, or an address in brackets such as [192.168.1.50]"
        )
    return value


def _template(value: str) -> str:
    if value.startswith(".") or re.search(r"[/\\]", value):
        raise ValueError("is no template's name: write it without folder and ending, such as alert")
    return _label(value)


def _below_folder(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path) or "\0" in str(value) or not str(value):
        raise ValueError("is no path")
    return info.context[FOLDER] / value if info.context else Path(value)


def _existing(value: Path) -> Path:
    try:
        found = value.is_file()
    except OSError:  # a folder on the way may not be looked into
        found = False
    if not found:
        raise ValueError(f"is no file that can be read; looked for {value.absolute()}")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic makes a fault of a ValueError alone
    return value


def _secret(value: SecretStr) -> SecretStr:
    if "\0" in value.get_secret_value():
        raise ValueError("must not contain NUL")  # RFC 4616 §2
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _command(value: Any, info: ValidationInfo) -> Any:
    """Split a command that is one text into words, as a shell would, and nothing more of what a shell does.

    A program that is named with a slash has its place at the folder of the file, like every other path.
    """
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"is no command: {str(error).lower()}; write a list: [program, argument]") from None
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        return value
    program, *arguments = value
    if "/" in program and info.context:
        program = str(info.context[FOLDER] / program)
    return [program, *arguments]


def _word(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _program(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value[0]:
        raise ValueError("must begin with the name of a program")
    return value


def _upper(value: Any) -> Any:
    value = _listed(value)
    return [one.upper() if isinstance(one, str) else one for one in value] if isinstance(value, list) else value


def _once(value: tuple[Mechanism, ...]) -> tuple[Mechanism, ...]:
    return tuple(dict.fromkeys(value))


def _notify(value: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if "never" in value and len(value) > 1:
        raise ValueError("never stands alone (RFC 3461 §4.1): take it or the others out")
    return tuple(dict.fromkeys(value))


Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_label)]
ClientId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_client_id)]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
HeloName = Annotated[str, AfterValidator(_helo_name)]
BusName = Annotated[str, AfterValidator(_bus)]
Mac = Annotated[str, AfterValidator(parse_mac)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
TemplateName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_template)]
TopicFilter = Annotated[str, AfterValidator(_topic_filter)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), AfterValidator(_secret)]
Factor = Annotated[float, BeforeValidator(_number), Field(ge=1, le=100)]
Number = Annotated[int, BeforeValidator(_number)]
Port = Annotated[int, BeforeValidator(_number), Field(ge=1, le=65_535)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Address = Annotated[IPv4Address, BeforeValidator(parse_ipv4)]
Interface = Annotated[IPv4Interface, BeforeValidator(parse_interface)]
RelativePath = Annotated[Path, BeforeValidator(_below_folder)]
ExistingFile = Annotated[RelativePath, AfterValidator(_existing)]
Names = Annotated[tuple[Annotated[str, Field(max_length=400)], ...], BeforeValidator(_listed)]
Paths = Annotated[tuple[RelativePath, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_listed)]
Word = Annotated[str, Field(max_length=4096), AfterValidator(_word)]
Command = Annotated[
    tuple[Word, ...],
    BeforeValidator(_command),
    Field(min_length=1, max_length=MAX_COMMAND_WORDS),
    AfterValidator(_program),
]
Mechanism = Literal["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2"]
Mechanisms = Annotated[tuple[Mechanism, ...], BeforeValidator(_upper), AfterValidator(_once)]
Condition = Literal["never", "success", "failure", "delay"]
Notify = Annotated[tuple[Condition, ...], BeforeValidator(_listed), AfterValidator(_notify)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_listed), Field(max_length=4)]
