"""gRPC on both sides: a server for any `ArtifactPlugin`, and a downstream as an `ArtifactPlugin`.

No other room uses gRPC.
"""

import logging

# gRPC logs exceptions with their texts, which can contain anything. Every failure that it would log is handled in
# `rpc.edge`, which logs it without the text.
logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)
