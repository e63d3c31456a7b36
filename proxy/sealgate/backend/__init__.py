"""The bundled backend: a source on an object store, for users who have no other artifact plugin to wrap."""

from sealgate.backend.store import ObjectStoreBackend

__all__ = ["ObjectStoreBackend"]
