"""Sealgate: an artifact plugin for Argo Workflows that encrypts what another artifact plugin stores."""


def program_version() -> str:
    """The version of this program; `unknown` where the package is not installed.

    Reading it takes longer than the whole way to the socket, so nothing reads it before it is needed.
    """
    from importlib import metadata  # noqa: PLC0415 - see above

    try:
        return metadata.version("sealgate")
    except metadata.PackageNotFoundError:
        return "unknown"
