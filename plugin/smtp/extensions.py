"""What a relay says it can do: the service extensions in its answer to EHLO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_MAX_SIZE_DIGITS = 20  # RFC 1870 §4


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """EHLO keywords in upper case, each with its parameters as the relay wrote them; none after HELO."""

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Extensions:
        """Read the lines of the reply to EHLO behind the first one, which is only a greeting.

        Both spellings ``AUTH LOGIN PLAIN`` and ``AUTH=LOGIN PLAIN`` are understood and added up, since some
        relays print both; of any other keyword the first line counts. Lines without a keyword are passed over.
        """
        keywords: dict[str, tuple[str, ...]] = {}
        for line in lines:
            keyword, *parameters = line.split() or [""]
            keyword = keyword.upper()
            if keyword.startswith("AUTH="):
                parameters = [keyword.removeprefix("AUTH="), *parameters]
                keyword = "AUTH"
            if keyword == "AUTH":
                keywords["AUTH"] = keywords.get("AUTH", ()) + tuple(filter(None, parameters))
            elif keyword:
                keywords.setdefault(keyword, tuple(parameters))
        return cls(keywords=MappingProxyType(keywords))

    def offers(self, keyword: str) -> bool:
        """Whether the relay announced ``keyword`` (upper case)."""
        return keyword in self.keywords

    @property
    def mechanisms(self) -> frozenset[str]:
        """The SASL mechanisms offered with AUTH, in upper case (RFC 4954 §3)."""
        return frozenset(mechanism.upper() for mechanism in self.keywords.get("AUTH", ()))

    @property
    def size_bytes(self) -> int | None:
        """The largest letter the relay takes (RFC 1870 §4), or None where it names no limit."""
        value = next(iter(self.keywords.get("SIZE", ())), "")
        if not (value.isascii() and value.isdecimal() and len(value) <= _MAX_SIZE_DIGITS):
            return None
        return int(value) or None
