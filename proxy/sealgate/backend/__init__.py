"""The bundled backend: an artifact plugin on an object store, for those who have no other plugin to wrap."""

from sealgate.backend.store import ObjectStoreBackend

__all__ = ["ObjectStoreBackend"]
