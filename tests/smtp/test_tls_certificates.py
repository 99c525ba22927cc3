"""Whom TLS trusts, under which names, and what is told of a certificate."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plugin.smtp.certificate import MAX_NAMES, Secured
from plugin.smtp.tls import Tls, TlsError
from tests.smtp.tls_servers import (
    AUTHORITY,
    CERTIFICATES,
    STRANGER,
    VERSIONS,
    WAIT_S,
    MemoryServer,
    connect_by_host,
    echo,
    heard_once,
    read_all,
    secured,
    secured_by,
    server_context,
    serving,
)

EXPIRY = datetime(2125, 1, 1, tzinfo=UTC)
MANY = tuple(f"mail{number}.example.org" for number in range(1, MAX_NAMES + 1))


def told(tls: Tls, certificate: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Secured:
    """Return what is told of a server's certificate, in memory."""
    return secured(tls, MemoryServer(server_context(certificate, minimum=version, maximum=version))).secured


@pytest.mark.parametrize(
    ("certificate", "name", "shown"),
    [
        ("server", "localhost", "localhost"),
        ("server", "localhost.", "localhost"),
        ("server", "LOCALHOST", "LOCALHOST"),
        ("many", "mail7.example.org", "mail7.example.org"),
        ("server", "127.0.0.1", None),  # an address is no server name (RFC 6066 §3)
        ("many", "::1", None),
    ],
)
def test_names_that_the_certificate_is_for(certificate: str, name: str, shown: str | None) -> None:
    names: list[str | None] = []
    context = server_context(certificate)
    context.sni_callback = lambda _object, sni, _context: names.append(sni)
    with serving(secured_by(context, echo)) as server:
        tls = Tls(name, ca_file=AUTHORITY if certificate == "server" else str(CERTIFICATES / "many.pem"))
        stream = secured(tls, connect_by_host(server.port))
        stream.send_all(b"end", timeout_s=WAIT_S)
        assert read_all(stream) == b""
        stream.close()
    assert names == [shown]


@pytest.mark.parametrize(
    ("certificate", "ca_file", "words"),
    [
        ("expired", AUTHORITY, ["has expired", "our clock"]),
        ("early", AUTHORITY, ["not valid yet", "our clock"]),
        ("elsewhere", AUTHORITY, ["is not for localhost", "write as host"]),
        ("server", STRANGER, ["no authority in ca_file", STRANGER, "write as ca_file"]),
        ("server", None, ["authorities that this machine trusts", "write as ca_file"]),
    ],
)
def test_a_certificate_that_is_not_to_be_trusted(certificate: str, ca_file: str | None, words: list[str]) -> None:
    alerts: list[str] = []

    def serve(connection: socket.socket) -> None:
        # With TLS 1.3 the server is done before the client has judged, so it reads the alert afterwards.
        with pytest.raises(ssl.SSLError) as caught:
            secured_by(server_context(certificate), heard_once)(connection)
        alerts.append(str(caught.value.reason))

    with serving(serve) as server:
        stream = connect_by_host(server.port)
        with pytest.raises(TlsError) as caught:
            secured(Tls("localhost", ca_file=ca_file), stream)
        stream.close()
    for word in words:
        assert word in str(caught.value)
    assert "ALERT" in alerts[0], "the server is told why"


@pytest.mark.parametrize(
    ("certificate", "ca_file"),
    [
        ("elsewhere", AUTHORITY),
        # It has the address, but as a host name: an address must be there as one (RFC 6125 §1.7.2, RFC 2818 §3.1).
        ("address_as_name", str(CERTIFICATES / "address_as_name.pem")),
    ],
)
def test_an_address_that_the_certificate_is_not_for(certificate: str, ca_file: str) -> None:
    def serve(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            secured_by(server_context(certificate), heard_once)(connection)

    with serving(serve) as server:
        stream = connect_by_host(server.port)
        with pytest.raises(TlsError, match=r"is not for 127\.0\.0\.1"):
            secured(Tls("127.0.0.1", ca_file=ca_file), stream)
        stream.close()


def test_the_relays_own_certificate_as_ca_file(tmp_path: Path) -> None:
    pem = (CERTIFICATES / "server.pem").read_text()
    (tmp_path / "pinned.pem").write_text(pem[pem.index("-----BEGIN CERT") :])
    with serving(secured_by(server_context(), echo)) as server:
        stream = secured(Tls("localhost", ca_file=str(tmp_path / "pinned.pem")), connect_by_host(server.port))
        stream.send_all(b"end", timeout_s=WAIT_S)
        assert read_all(stream) == b""
        stream.close()


@pytest.mark.parametrize("certificate", ["expired", "elsewhere", "server"])
def test_without_verify_anything_goes_and_it_is_said(certificate: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, logger="hardwire.smtp"),
        serving(secured_by(server_context(certificate), echo)) as server,
    ):
        stream = secured(Tls("localhost", verify=False), connect_by_host(server.port))
        stream.send_all(b"end", timeout_s=WAIT_S)
        assert read_all(stream) == b""
        stream.close()
    assert str(stream.secured) == "TLSv1.3, TLS_AES_256_GCM_SHA384, certificate NOT CHECKED"
    assert "IS NOT CHECKED" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_ca_file_that_is_none_until_it_is_mended(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    tls = Tls("localhost", ca_file=str(path))
    with serving(heard_once) as server:
        stream = connect_by_host(server.port)
        with pytest.raises(TlsError, match=re.escape(f"ca_file {path} cannot be used: ")):
            secured(tls, stream)
        stream.close()
    path.write_bytes(Path(AUTHORITY).read_bytes())
    with serving(secured_by(server_context(), echo)) as server:
        stream = secured(tls, connect_by_host(server.port))
        stream.close()


# --- What is told of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("certificate", "name", "subject", "names", "issuer"),
    [
        ("server", "localhost", "localhost", ("localhost", "127.0.0.1"), "Test authority"),
        ("many", "mail9.example.org", "mail1.example.org", MANY, "Example Post Ltd, mail1.example.org"),
    ],
)
def test_what_a_certificate_says(
    version: ssl.TLSVersion,
    verify: bool,
    certificate: str,
    name: str,
    subject: str,
    names: tuple[str],
    issuer: str,
) -> None:
    ca_file = AUTHORITY if certificate == "server" else str(CERTIFICATES / f"{certificate}.pem")
    one = told(Tls(name, ca_file=ca_file if verify else None, verify=verify), certificate, version)
    assert (one.subject, one.names, one.issuer, one.expires_at) == (subject, names, issuer, EXPIRY)
    assert one.checked is verify
    certified = f"certificate of {subject} until 2125-01-01" if verify else "certificate NOT CHECKED"
    assert str(one) == f"{one.version}, {one.cipher}, {certified}"


def test_a_resumed_session_tells_the_same() -> None:
    """Also without ``verify``: that the certificate is read must not make the next connection check it."""
    context, tls = server_context("expired"), Tls("localhost", verify=False)
    found: list[Secured] = []
    for context_now in (context, context, server_context("expired")):  # the third knows nothing of the session
        server = MemoryServer(context_now)
        stream = secured(tls, server)
        found.append(stream.secured)
        server.deliver(server.says(b"x") + server.farewell())
        assert read_all(stream) == b"x"
        stream.close()
    assert [one.resumed for one in found] == [False, True, False]
    assert [(one.subject, one.names, one.expires_at) for one in found] == [
        ("localhost", ("localhost", "127.0.0.1"), datetime(2021, 1, 1, tzinfo=UTC))
    ] * 3


def test_a_name_made_to_deceive_is_harmless() -> None:
    one = told(Tls("localhost", verify=False), "unnamed")
    assert (one.subject, one.names) == ("localhost\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}", ())
    assert one.issuer is not None
    assert one.issuer.isprintable()


@pytest.mark.parametrize("verify", [True, False])
def test_a_certificate_that_cannot_be_read_does_no_harm(verify: bool) -> None:
    ca_file = str(CERTIFICATES / "odd.pem") if verify else None
    one = told(Tls("localhost", ca_file=ca_file, verify=verify), "odd")
    assert (one.subject, one.names, one.issuer, one.expires_at) == (None, (), None, None)
    assert str(one).endswith(", certificate of ?" if verify else ", certificate NOT CHECKED")
