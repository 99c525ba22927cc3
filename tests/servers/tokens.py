"""Access tokens that the servers take: a word of Exim's, and signed ones (RFC 7519, HS256) for Dovecot."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

KEY: Final = b"rig-oauth-signing-key-0123456789"
HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A ``plugin.smtp.settings.Token`` that is made anew each time and so has nothing to forget."""

    make: Callable[[], str] = field(repr=False)

    def get(self) -> str:
        return self.make()

    def forget(self) -> None: ...


def signed(valid_s: int) -> str:
    """Return a token for alice that is valid for ``valid_s`` from now on; less than 0: that has expired."""
    now = int(time.time())
    claims = {"iss": "rig-issuer", "sub": "alice", "email": "alice", "iat": now - 2 * HOUR_S, "exp": now + valid_s}
    parts = b".".join(_base64(json.dumps(one).encode()) for one in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (parts + b"." + _base64(hmac.digest(KEY, parts, hashlib.sha256))).decode("ascii")


def _base64(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


GOOD: Final = Made(make=lambda: signed(HOUR_S))
EXPIRED: Final = Made(make=lambda: signed(-HOUR_S))
EXIM_GOOD: Final = Made(make=lambda: "good-token")
EXIM_BAD: Final = Made(make=lambda: "bad-token")
