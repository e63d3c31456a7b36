"""gRPC on both sides: a server for any `ArtifactPlugin`, and a downstream as an `ArtifactPlugin`.

Nothing outside this room knows of gRPC.
"""

import logging

# The library logs foreign exceptions with their texts, which can carry anything. Every failure that it
# would log ends at our own edge, which logs it without.
logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)
