"""Auth mounts on a real server, one for each test, that issue tokens with given policies."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from harness.http_server import serving
from harness.openbao import Transit

from sealgate.keys.vault.login import AppRoleLogin, JwtLogin

ROLE = "argo-artifacts"
AUDIENCE = "vault"
SUBJECT = "system:serviceaccount:ns:sa"


class ServiceAccount:
    """Signs service account tokens as a cluster does for its pods."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def public(self) -> str:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()

    def token(self, **changed: Any) -> str:
        now = int(time.time())
        pod = {"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "u1"}}
        claims = {
            "aud": [AUDIENCE],
            "iss": "https://kubernetes.default.svc",
            "sub": SUBJECT,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "kubernetes.io": pod,
            **changed,
        }
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        return f"{signed}.{_text(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encoded(value: Any) -> str:
    return _text(json.dumps(value).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def approle(
    transit: Transit, directory: Path, policies: list[str], metadata: str = "{}", **options: Any
) -> AppRoleLogin:
    mount = f"approle-{secrets.token_hex(4)}"
    transit.post(f"sys/auth/{mount}", {"type": "approle"})
    role = f"auth/{mount}/role/{ROLE}"
    transit.post(role, {"token_policies": policies, "token_no_default_policy": True, "token_ttl": "10m", **options})
    answer = transit.server.api("GET", f"{role}/role-id", namespace=transit.namespace)
    file = directory / "secret-id"
    file.write_text(transit.post(f"{role}/secret-id", {"metadata": metadata})["data"]["secret_id"] + "\n")
    return AppRoleLogin(mount, answer["data"]["role_id"], file)


def jwt(transit: Transit, account: ServiceAccount, file: Path, policies: list[str], **options: Any) -> JwtLogin:
    mount = f"jwt-{secrets.token_hex(4)}"
    transit.post(f"sys/auth/{mount}", {"type": "jwt"})
    transit.post(f"auth/{mount}/config", {"jwt_validation_pubkeys": [account.public]})
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [AUDIENCE],
        "bound_subject": SUBJECT,
        "token_policies": policies,
        "token_type": "batch",
        "token_ttl": "5m",
        **options,
    }
    transit.post(f"auth/{mount}/role/{ROLE}", role)
    file.write_text(account.token() + "\n")
    return JwtLogin(mount, ROLE, file)


def kubernetes(transit: Transit, reviewer: str, file: Path, account: ServiceAccount, policies: list[str]) -> JwtLogin:
    mount = f"kubernetes-{secrets.token_hex(4)}"
    enable_kubernetes(transit.post, mount, reviewer, account)
    role = {
        "bound_service_account_names": ["sa"],
        "bound_service_account_namespaces": ["ns"],
        "audience": AUDIENCE,
        "token_policies": policies,
        "token_ttl": "5m",
    }
    transit.post(f"auth/{mount}/role/{ROLE}", role)
    file.write_text(account.token())
    return JwtLogin(mount, ROLE, file)


def enable_kubernetes(post: Callable[[str, Any], Any], mount: str, reviewer: str, account: ServiceAccount) -> None:
    """Enable the method kubernetes at `mount`, for a cluster whose API server is at `reviewer`."""
    post(f"sys/auth/{mount}", {"type": "kubernetes"})
    configuration = {
        "kubernetes_host": reviewer,
        "disable_local_ca_jwt": True,
        "kubernetes_ca_cert": certificate()[0],
        "token_reviewer_jwt": account.token(),
    }
    post(f"auth/{mount}/config", configuration)


@contextmanager
def token_reviewer() -> Iterator[str]:
    """Serve the TokenReview API of a cluster, which the method kubernetes calls to verify a token; yield its URL.

    There is no cluster: this server accepts every token. Vault's side of the method is real.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            claims = json.loads(base64.urlsafe_b64decode(review["spec"]["token"].split(".")[1] + "=="))
            status = {
                "authenticated": True,
                "user": {"username": claims["sub"], "uid": "u1"},
                "audiences": claims["aud"],
            }
            answer = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}
            body = json.dumps(answer).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def certificate() -> tuple[str, str]:
    """Return a self-signed certificate for 127.0.0.1 and its key, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return (
        built.public_bytes(pem).decode(),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode(),
    )
