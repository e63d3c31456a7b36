"""The settings: one YAML or JSON document, validated once, immutable after (docs/configuration.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from sealgate.documents.reader import LONGEST, Document, Unreadable, read
from sealgate.documents.validate import converted
from sealgate.errors import NotConfigured, one_line
from sealgate.identity import SERVICE_ACCOUNT

API_VERSION = "sealgate/v1alpha1"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_DURATION = 7 * 24 * 3600.0
_LONGEST_AUDIT_WAIT = 60
_MOST_SINKS = 8


class Duration(float):
    """Seconds, written as `30s`, `10m`, `1h`, `250ms`; at most seven days."""

    __slots__ = ()


class DownstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which plugin is wrapped: a `command` to run, or the `socket` of one that somebody else runs."""

    command: tuple[str, ...] = ()
    socket: Path | None = None
    plugin_name: str | None = None
    start_timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        """Require exactly one of the two."""
        if bool(self.command) == bool(self.socket):
            raise ValueError("exactly one of `command` and `socket` must be given")
        if any("\0" in word for word in self.command):
            raise ValueError("`command` holds a NUL, which no command can")


class LocalKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A keyring file, and the key in it that new data keys are wrapped under."""

    keyring: Path
    key: str = "default"


class _Auth(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="method"):
    """How Vault knows this process. Secrets are in files or in the environment, never here."""


class Roles(Struct, frozen=True, forbid_unknown_fields=True):
    """Roles in Vault of single components (`Identity.component`); empty: the one that is for all."""

    init: str = ""
    sidecar: str = ""
    gc: str = ""
    server: str = ""


class KubernetesAuth(_Auth, frozen=True, tag="kubernetes"):
    """The pod's service account, which Vault asks the cluster about."""

    role: str
    """Of every component that `roles` does not name."""
    roles: Roles = Roles()
    """Argo gives one configuration to all of a workflow's pods, and not all of them need the same rights."""
    mount: str = "kubernetes"
    jwt_path: Path = SERVICE_ACCOUNT / "token"


class JwtAuth(_Auth, frozen=True, tag="jwt"):
    """A signed token, which Vault verifies by itself."""

    role: str
    roles: Roles = Roles()
    """See `KubernetesAuth.roles`."""
    mount: str = "jwt"
    jwt_path: Path = SERVICE_ACCOUNT / "token"


class AppRoleAuth(_Auth, frozen=True, tag="approle"):
    """A role id and a secret id."""

    role_id: str
    secret_id_file: Path
    mount: str = "approle"


class TokenAuth(_Auth, frozen=True, tag="token"):
    """The token in `VAULT_TOKEN`."""


class TokenFileAuth(_Auth, frozen=True, tag="tokenFile"):
    """A token in a file that somebody else keeps good, such as Vault Agent."""

    path: Path


class VaultKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A key of Vault's Transit engine, and how to get at it."""

    auth: KubernetesAuth | JwtAuth | AppRoleAuth | TokenAuth | TokenFileAuth
    address: str = ""
    """Empty: `VAULT_ADDR`."""
    namespace: str = ""
    """Empty: `VAULT_NAMESPACE`."""
    mount: str = "transit"
    key: str = "artifacts"
    context: str = ""
    """For derived keys; `${identity.namespace}` stands for the pod's namespace."""
    timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        """Require what a request can be made of."""
        if self.address and not self.address.startswith(("https://", "http://")):
            raise ValueError("`address` must begin with https:// or http://")
        if "${" in self.context.replace("${identity.namespace}", ""):
            raise ValueError("`context` may hold ${identity.namespace}, and nothing else of that kind")
        if self.timeout <= 0:
            raise ValueError("`timeout` must be longer than nothing")


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How long and how many opened data keys are remembered; 0 of either is none."""

    ttl: Duration = Duration(600)
    entries: Annotated[int, msgspec.Meta(ge=0)] = 1024


class KeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which key provider is used."""

    provider: Literal["vault", "local"]
    vault: VaultKeySettings | None = None
    local: LocalKeySettings | None = None
    cache: CacheSettings = CacheSettings()

    def __post_init__(self) -> None:
        """Require the section of the provider that was named."""
        if getattr(self, self.provider) is None:
            raise ValueError(f"provider `{self.provider}` needs the section `{self.provider}`")

    @property
    def section(self) -> VaultKeySettings | LocalKeySettings:
        """The section of the provider that was named."""
        section: VaultKeySettings | LocalKeySettings = getattr(self, self.provider)
        return section


class PathSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Beneath which directories a request's local paths may lie."""

    roots: tuple[Path, ...] = (Path("/argo/inputs/artifacts"), Path("/tmp/argo/outputs"), Path("/mainctrfs"))  # noqa: S108 - Argo's own paths

    def __post_init__(self) -> None:
        """Require absolute paths."""
        for root in self.roots:
            if not root.is_absolute():
                raise ValueError(f"the root `{root}` is not absolute")


class SpoolSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where ciphertext waits, and whether it may."""

    directory: Path | None = None
    transfer: Literal["auto", "file", "stream"] = "auto"


class _SinkSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    """Where the audit trail goes."""


class StdoutSink(_SinkSettings, frozen=True, tag="stdout"):
    """Standard output: in a pod, the container's log."""


class FileSink(_SinkSettings, frozen=True, tag="file"):
    """A file that is appended to."""

    path: Path


class OtlpSink(_SinkSettings, frozen=True, tag="otlp"):
    """A collector, where `OTEL_EXPORTER_OTLP_ENDPOINT` says: a second copy, which may lose records."""


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How accesses are recorded (docs/audit.md)."""

    sinks: tuple[StdoutSink | FileSink | OtlpSink, ...] = (StdoutSink(),)
    require: Literal["any", "all"] = "any"
    mode: Literal["fail-closed", "fail-open"] = "fail-closed"
    phases: Literal["both", "outcome"] = "both"
    wait: Duration = Duration(2)
    digest: Literal["none", "sha256"] = "none"
    """Of the ciphertext of a single file: costs reading it once more."""
    hmac_key_file: Path | None = None
    """A secret of at least 32 bytes, under which artifact keys are hidden that a policy wants hidden."""
    signing_key: str = ""
    """The key of Vault's Transit that certifies trails. A local keyring certifies with the key that wraps."""

    def __post_init__(self) -> None:
        """Require that there is somewhere to record."""
        if all(isinstance(sink, OtlpSink) for sink in self.sinks):
            raise ValueError("`sinks` must name stdout or a file: a collector may lose records")
        if len(self.sinks) > _MOST_SINKS:
            raise ValueError(f"`sinks` must name at most {_MOST_SINKS} places")
        if len(set(self.sinks)) < len(self.sinks):
            raise ValueError("`sinks` must name each place once: a record that is there twice is a flaw")
        if not 0 < self.wait <= _LONGEST_AUDIT_WAIT:
            raise ValueError("`wait` must be longer than nothing, and at most `60s`")


class PrometheusSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where the page for Prometheus is."""

    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 9464


class TelemetrySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is told of calls. Traces and where everything goes are the `OTEL_*` variables' affair."""

    metrics: Literal["none", "otlp", "prometheus"] = "none"
    prometheus: PrometheusSettings = PrometheusSettings()


class Settings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A whole configuration."""

    api_version: Literal["sealgate/v1alpha1"]
    kind: Literal["Sealgate"]
    downstream: DownstreamSettings | None = None
    keys: KeySettings | None = None
    paths: PathSettings = PathSettings()
    spool: SpoolSettings = SpoolSettings()
    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    policies: tuple[Any, ...] = ()
    """Files, directories, and documents in place; `parse` makes them paths and `Document`s."""
    require_policy: bool = False
    """Without a policy nothing is allowed, instead of the built-in baseline."""
    allow_passthrough: bool = False
    """A policy may say that something is stored unsealed."""

    def __post_init__(self) -> None:
        """Require of a policy that it is a path or a mapping; what is in it is validated later."""
        for policy in self.policies:
            if not isinstance(policy, dict | Document | Path) and not (isinstance(policy, str) and policy):
                raise ValueError("each of `policies` must be a path or a document in place")

    def required_downstream(self) -> DownstreamSettings:
        """The section `downstream`, without which nothing can be served."""
        if self.downstream is None:
            raise _missing("downstream")
        return self.downstream

    def required_keys(self) -> KeySettings:
        """The section `keys`, without which nothing can be sealed."""
        if self.keys is None:
            raise _missing("keys")
        return self.keys


def load(environment: Mapping[str, str] = os.environ, plugin: str | None = None) -> Settings:
    """The settings that the environment names, with those of one plugin name laid over them.

    Raises:
        NotConfigured: there are none, or they are not valid; the text has file, line and column.
    """
    text, source = document(environment)
    return parse(text, source, plugin)


def parse(text: str, source: str, plugin: str | None = None) -> Settings:
    """The settings in `text`; see `load`."""
    try:
        root = read(text)
    except Unreadable as fault:
        raise NotConfigured(fault.at(source), says="configuration") from None
    if root.empty:
        raise NotConfigured(f"{source}: the document is empty", says="configuration", remedy=_HOW)
    document = root.value
    written = document.pop("plugins", {}) if isinstance(document, dict) else {}
    settings = _convert(document, [root], source)
    if not isinstance(written, dict):
        raise _fault(source, root.find(["plugins"]), "expected a mapping from plugin names to settings")
    plugins = Document(written, root.place.names["plugins"][2]) if written else root
    for name, overlay in written.items():
        # Every overlay is validated, so that a mistake shows at the first start and not in one placement.
        laid_over = _convert(_laid_over(document, overlay), [plugins.part(name), root], source)
        settings = laid_over if name == plugin else settings
    return settings


_HOW = "Set SEALGATE_CONFIG to the path of a configuration, or SEALGATE_CONFIG_YAML to its text"


def _missing(section: str) -> NotConfigured:
    return NotConfigured(
        f"the configuration has no section {section}", says="configuration", remedy=f"Add {section} to it"
    )


def document(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The text that the environment names, and where it is: a path, or the name of the variable that holds it."""
    inline, path = environment.get("SEALGATE_CONFIG_YAML"), environment.get("SEALGATE_CONFIG")
    if inline and path:
        raise NotConfigured("both SEALGATE_CONFIG and SEALGATE_CONFIG_YAML are set", remedy="Unset one of them")
    if inline:
        return inline, "SEALGATE_CONFIG_YAML"
    if not path:
        raise NotConfigured("there is no configuration", says="environment", remedy=_HOW)
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except UnicodeDecodeError:
        raise NotConfigured(f"the configuration {path} is not UTF-8", remedy="Write it as YAML or JSON") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise NotConfigured(f"the configuration {path} cannot be read: {reason}", remedy=_HOW) from None
    return text, path


def _laid_over(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{name: _laid_over(base.get(name), value) for name, value in over.items()}}


def _convert(value: Any, documents: Sequence[Document], source: str) -> Settings:
    """Validate `value`; `documents` are where it was written, an overlay before what it is laid over."""
    settings, faults = converted(value, Settings, _decode)
    if settings is None:
        place = max((document.find(faults[0].path) for document in documents), key=lambda found: found[0])
        raise _fault(source, place, one_line(faults[0].fact))
    holder = next((d for d in documents if isinstance(d.value, dict) and "policies" in d.value), None)
    policies = tuple(
        holder.part("policies", str(number)) if holder and isinstance(policy, dict) else Path(policy)
        for number, policy in enumerate(settings.policies)
    )
    return msgspec.structs.replace(settings, policies=policies)


def _fault(source: str, place: tuple[int, int, int], fact: str) -> NotConfigured:
    _, line, column = place
    return NotConfigured(f"{source}:{line}:{column}: {fact}", says="configuration")


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is Duration and isinstance(value, str):
        number = value.rstrip("mhs")
        unit = _UNITS.get(value[len(number) :])
        if unit is not None and number.isascii() and number.replace(".", "", 1).isdigit():
            seconds = float(number) * unit
            if seconds > _LONGEST_DURATION:
                raise ValueError("a duration is `168h` at most")
            return Duration(seconds)
    expected = "a path" if kind is Path else "a duration such as `30s` or `10m`"
    raise ValueError(f"expected {expected}")
