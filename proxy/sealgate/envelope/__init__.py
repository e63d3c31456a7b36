"""The sealed format, version 1 (docs/format.md): headers, segments, files, trees and streams.

Pure: bytes and files in, bytes and files out. Which key, which artifact and where the bytes go is the
caller's to say.
"""

from sealgate.envelope.files import Admit, open_file, seal_file
from sealgate.envelope.header import MAGIC, Binding, Header, Unlock, new_header, read_header
from sealgate.envelope.segments import plaintext_size, stored_size
from sealgate.envelope.streams import open_stream, seal_stream, sealed_at, split_stream
from sealgate.envelope.trees import (
    NotRegular,
    Totals,
    create_beneath,
    descend,
    open_regular,
    open_tree,
    savable,
    seal_tree,
    walk,
)

__all__ = [
    "MAGIC",
    "Admit",
    "Binding",
    "Header",
    "NotRegular",
    "Totals",
    "Unlock",
    "create_beneath",
    "descend",
    "new_header",
    "open_file",
    "open_regular",
    "open_stream",
    "open_tree",
    "plaintext_size",
    "read_header",
    "savable",
    "seal_file",
    "seal_stream",
    "seal_tree",
    "sealed_at",
    "split_stream",
    "stored_size",
    "walk",
]
