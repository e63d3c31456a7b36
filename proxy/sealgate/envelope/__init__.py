"""The sealed format, version 1 (docs/format.md): headers, segments, files, trees and streams.

The room is pure: bytes and files in, bytes and files out. The caller decides which key is used, which artifact it is
and where the bytes go.
"""

from sealgate.envelope.directories import (
    NotRegular,
    create_beneath,
    create_directories,
    create_directory,
    descend,
    open_regular,
    savable,
    walk,
)
from sealgate.envelope.files import Admit, open_file, seal_file
from sealgate.envelope.header import MAGIC, Binding, Header, Unlock, new_header, read_header
from sealgate.envelope.listing import MANIFEST, MOST_ENTRIES, ListingLimits
from sealgate.envelope.manifest import (
    Manifest,
    SavedDirectory,
    incomplete,
    no_manifest,
    open_manifest,
    seal_manifest,
)
from sealgate.envelope.segments import plaintext_size, stored_size
from sealgate.envelope.streams import open_stream, seal_stream, sealed_at, split_stream
from sealgate.envelope.trees import Totals, open_tree, seal_tree

__all__ = [
    "MAGIC",
    "MANIFEST",
    "MOST_ENTRIES",
    "Admit",
    "Binding",
    "Header",
    "ListingLimits",
    "Manifest",
    "NotRegular",
    "SavedDirectory",
    "Totals",
    "Unlock",
    "create_beneath",
    "create_directories",
    "create_directory",
    "descend",
    "incomplete",
    "new_header",
    "no_manifest",
    "open_file",
    "open_manifest",
    "open_regular",
    "open_stream",
    "open_tree",
    "plaintext_size",
    "read_header",
    "savable",
    "seal_file",
    "seal_manifest",
    "seal_stream",
    "seal_tree",
    "sealed_at",
    "split_stream",
    "stored_size",
    "walk",
]
