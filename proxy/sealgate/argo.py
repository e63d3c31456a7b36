"""Facts about Argo that several rooms rely on (docs/argo-contract.md)."""

SERVICE = "artifact.ArtifactService"
"""The name of the gRPC service of artifact plugins."""
METHODS = f"/{SERVICE}/"
"""What the name of each of its methods begins with."""
LARGEST_MESSAGE = 4 << 20
"""The largest message that Argo's client accepts, in bytes. No plugin may send it more, or expect more from it."""
LARGEST_CHUNK = 2 << 20
"""The largest chunk that Argo sends in one message of an upload, in bytes."""

TRANSIENT = ("i/o timeout", "connect: connection refused")
"""Two of the texts that `retryPolicy: OnTransientError` looks for: a passing fault ends in one of them."""

RETRIED_TEXTS = (
    *TRANSIENT,
    "Connection closed by foreign host",
    "net/http: TLS handshake timeout",
    "connection timed out",
    "connection reset by peer",
    "http2: client connection lost",
    "http2: server sent GOAWAY and closed the connection",
    "invalid connection",
    "etcdserver: leader changed",
    "etcdserver: request timed out",
    "etcdserver: too many requests",
    "upper: no more rows in",
)
"""Every text that Argo takes for a passing fault. An error that lasts must not contain one: Argo would retry it."""
