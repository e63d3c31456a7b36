"""The settings: one YAML or JSON document, which is validated as a whole and then immutable (docs/configuration.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from sealgate.documents.reader import LONGEST, Document, Unreadable, read
from sealgate.documents.validate import converted
from sealgate.errors import NotConfigured, one_line
from sealgate.identity import SERVICE_ACCOUNT, require_no_other_variable

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds."""
_LONGEST_DURATION, _LONGEST_AUDIT_WAIT = 7 * 24 * 3600.0, 60
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_MOST_SINKS, _MOST_ABSENT_TEXTS = 8, 16
_ABSENT_TEXT = re.compile(r"(?=.{1,200}\Z)(?:[\W_]*[^\W_]){4}.*", re.DOTALL)


class Duration(float):
    """A number of seconds, written as `30s`, `10m`, `1h` or `250ms`; at most seven days."""

    __slots__ = ()


class BuiltinSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The bundled backend in this process. The environment sets what is not set here (docs/backend.md)."""

    url: str = ""


class DownstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The plugin that Sealgate wraps: `builtin`, a `command` to run, or the `socket` of a plugin that runs already."""

    builtin: BuiltinSettings | None = None
    command: tuple[str, ...] = ()
    socket: Path | None = None
    plugin_name: str | None = None
    start_timeout: Duration = Duration(30)
    absent_texts: tuple[str, ...] = ()
    """Texts in answers by which this plugin says that nothing is stored under a key, beside those that are known."""

    def __post_init__(self) -> None:
        """Require exactly one of `builtin`, `command` and `socket`."""
        if [self.builtin is not None, bool(self.command), bool(self.socket)].count(True) != 1:
            raise ValueError("exactly one of `builtin`, `command` and `socket` must be given")
        if any("\0" in word for word in self.command):
            raise ValueError("`command` contains a NUL character, which no argument can")
        if len(self.absent_texts) > _MOST_ABSENT_TEXTS:
            raise ValueError(f"`absentTexts` must contain at most {_MOST_ABSENT_TEXTS} texts")
        if not all(map(_ABSENT_TEXT.fullmatch, self.absent_texts)):
            raise ValueError("each of `absentTexts` must have at least 4 letters or digits, and at most 200 characters")


class LocalKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A keyring file, and the name of its key that wraps new data keys."""

    keyring: Path
    key: str = "default"


class _Auth(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="method"):
    """How this process logs in to Vault. A secret is in a file or in the environment, never in the settings."""


class Roles(Struct, frozen=True, forbid_unknown_fields=True):
    """Vault roles of single components (`Identity.component`). An empty one means the common `role`."""

    init: str = ""
    sidecar: str = ""
    gc: str = ""
    server: str = ""


class KubernetesAuth(_Auth, frozen=True, tag="kubernetes"):
    """A login with the pod's service account, whose token Vault checks with the cluster."""

    role: str
    """The role of every component that `roles` does not name. `NAMESPACE_VARIABLE` may be a part of each role."""
    roles: Roles = Roles()
    """Argo gives all pods of a workflow the same configuration, but they do not need the same rights."""
    mount: str = "kubernetes"
    jwt_path: Path = SERVICE_ACCOUNT / "token"

    def __post_init__(self) -> None:
        """Require names of roles without other variables."""
        require_no_other_variable("`role` and `roles`", self.role, *msgspec.structs.astuple(self.roles))


class JwtAuth(KubernetesAuth, frozen=True, tag="jwt"):
    """The same login, with a token that Vault verifies by itself."""

    mount: str = "jwt"


class AppRoleAuth(_Auth, frozen=True, tag="approle"):
    """A login with a role id and a secret id."""

    role_id: str
    secret_id_file: Path
    mount: str = "approle"


class TokenAuth(_Auth, frozen=True, tag="token"):
    """The token in `VAULT_TOKEN`."""


class TokenFileAuth(_Auth, frozen=True, tag="tokenFile"):
    """A token in a file that another program, such as Vault Agent, renews."""

    path: Path


class VaultKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A key of Vault's Transit engine, and how to reach it."""

    auth: KubernetesAuth | JwtAuth | AppRoleAuth | TokenAuth | TokenFileAuth
    address: str = ""
    """If empty, `VAULT_ADDR` is used."""
    namespace: str = ""
    """If empty, `VAULT_NAMESPACE` is used."""
    ca_bundle: str = ""
    """The certificates to trust, in PEM. If empty, `VAULT_CACERT` names their file or `VAULT_CACERT_BYTES` has them."""
    mount: str = "transit"
    key: str = "artifacts"
    data_keys: Literal["vault", "local"] = "vault"
    """Who makes data keys: Vault, or this process, which has Vault encrypt them."""
    context: str = ""
    """The context of a derived key. `NAMESPACE_VARIABLE` is replaced by the pod's namespace."""
    timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        """Check the address, the certificates, the context and the timeout."""
        if self.address and not self.address.startswith(("https://", "http://")):
            raise ValueError("`address` must begin with https:// or http://")
        if self.ca_bundle and _CERTIFICATE not in self.ca_bundle:
            raise ValueError(f"`caBundle` must contain certificates in PEM, which begin with `{_CERTIFICATE}`")
        require_no_other_variable("`context`", self.context)
        if self.timeout <= 0:
            raise ValueError("`timeout` must be longer than `0s`")


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How long, and how many, unwrapped data keys are cached. 0 for either turns the cache off."""

    ttl: Duration = Duration(600)
    entries: Annotated[int, msgspec.Meta(ge=0)] = 1024


class KeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The key provider, and its section."""

    provider: Literal["vault", "local"]
    vault: VaultKeySettings | None = None
    local: LocalKeySettings | None = None
    cache: CacheSettings = CacheSettings()

    def __post_init__(self) -> None:
        """Require the section of the chosen provider."""
        if getattr(self, self.provider) is None:
            raise ValueError(f"provider `{self.provider}` needs the section `{self.provider}`")

    @property
    def section(self) -> VaultKeySettings | LocalKeySettings:
        """The section of the chosen provider."""
        section: VaultKeySettings | LocalKeySettings = getattr(self, self.provider)
        return section


class PathSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The directories that contain the local paths of every request."""

    roots: tuple[Path, ...] = (Path("/argo/inputs/artifacts"), Path("/tmp/argo/outputs"), Path("/mainctrfs"))  # noqa: S108 - Argo's own paths

    def __post_init__(self) -> None:
        """Require absolute paths."""
        for root in (root for root in self.roots if not root.is_absolute()):
            raise ValueError(f"the root `{root}` is not absolute")


class SpoolSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where the spool is, and when it is used."""

    directory: Path | None = None
    transfer: Literal["auto", "file", "stream"] = "auto"


class _SinkSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    """A destination of the audit trail."""


class StdoutSink(_SinkSettings, frozen=True, tag="stdout"):
    """Standard output, which is the container's log in a pod."""


class FileSink(_SinkSettings, frozen=True, tag="file"):
    """A file to append to."""

    path: Path


class OtlpSink(_SinkSettings, frozen=True, tag="otlp"):
    """The collector at `OTEL_EXPORTER_OTLP_ENDPOINT`: a second copy of the trail, which may lose records."""


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How accesses are recorded (docs/audit.md)."""

    sinks: tuple[StdoutSink | FileSink | OtlpSink, ...] = (StdoutSink(),)
    require: Literal["any", "all"] = "any"
    mode: Literal["fail-closed", "fail-open"] = "fail-closed"
    phases: Literal["both", "outcome"] = "both"
    wait: Duration = Duration(2)
    digest: Literal["none", "sha256"] = "none"
    """The digest of a single file's ciphertext in its record. It costs one more read of the file."""
    hmac_key_file: Path | None = None
    """The file of an HMAC key of at least 32 bytes, for artifact keys that a policy hides from the trail."""
    signing_key: str = ""
    """The name of the Transit key that certifies trails. A local keyring certifies with its wrapping key."""

    def __post_init__(self) -> None:
        """Require at least one sink that loses no record, each sink once, and a usable `wait`."""
        if all(isinstance(sink, OtlpSink) for sink in self.sinks):
            raise ValueError("`sinks` must name stdout or a file, because a collector may lose records")
        if len(self.sinks) > _MOST_SINKS:
            raise ValueError(f"`sinks` must name at most {_MOST_SINKS} places")
        if len(set(self.sinks)) < len(self.sinks):
            raise ValueError(
                "`sinks` must name each place once, because a record that is written twice makes the trail invalid"
            )
        if not 0 < self.wait <= _LONGEST_AUDIT_WAIT:
            raise ValueError("`wait` must be longer than `0s`, and at most `60s`")


class PrometheusSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The address and port of the page for Prometheus."""

    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 9464


class TelemetrySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How metrics are exported. The `OTEL_*` variables set traces, and the collector's address."""

    metrics: Literal["none", "otlp", "prometheus"] = "none"
    prometheus: PrometheusSettings = PrometheusSettings()


class Settings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A complete configuration."""

    api_version: Literal["sealgate/v1alpha1"]
    kind: Literal["Sealgate"]
    downstream: DownstreamSettings | None = None
    keys: KeySettings | None = None
    paths: PathSettings = PathSettings()
    spool: SpoolSettings = SpoolSettings()
    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    policies: tuple[Any, ...] = ()
    """Files, directories, and documents in place. `parse` turns them into `Path`s and `Document`s."""
    require_policy: bool = False
    """Whether everything is refused if no policy is configured, instead of the baseline."""
    allow_unbound: bool = False
    """Whether objects that were sealed without an artifact key are opened, under whatever key they are stored."""
    allow_passthrough: bool = False
    """Whether a policy may use passthrough."""

    def __post_init__(self) -> None:
        """Require that each policy is a path or a mapping, validated later, and that the transfer is possible."""
        for policy in self.policies:
            if not isinstance(policy, dict | Document | Path) and not (isinstance(policy, str) and policy):
                raise ValueError("each of `policies` must be a path or a document in place")
        if self.downstream and self.downstream.builtin and self.spool.transfer == "file":
            raise ValueError("`spool.transfer` must not be `file` with `downstream.builtin`, which uses no spool")

    def required_downstream(self) -> DownstreamSettings:
        """Return the section `downstream`, or raise `NotConfigured` if there is none."""
        if self.downstream is None:
            raise _missing("downstream")
        return self.downstream

    def required_keys(self) -> KeySettings:
        """Return the section `keys`, or raise `NotConfigured` if there is none."""
        if self.keys is None:
            raise _missing("keys")
        return self.keys


def load(environment: Mapping[str, str] = os.environ, plugin: str | None = None) -> Settings:
    """Return the settings that the environment names, overlaid with those of `plugins.PLUGIN`.

    Raises:
        NotConfigured: no configuration is set, or it is not valid. The text has file, line and column.
    """
    return parse(*document(environment), plugin)


def parse(text: str, source: str, plugin: str | None = None) -> Settings:
    """Return the settings in `text`, overlaid with those of `plugins.PLUGIN`; errors name `source`.

    Every overlay is validated, not only that of `plugin`, so that a mistake shows at the first start.

    Raises:
        NotConfigured: `text` is not a valid configuration. The error has line and column.
    """
    try:
        root = read(text)
    except Unreadable as fault:
        raise NotConfigured(fault.at(source), says="configuration") from None
    if root.empty:
        raise NotConfigured(f"{source}: the document is empty", says="configuration", remedy=_HOW)
    document = root.value
    overlays = document.pop("plugins", {}) if isinstance(document, dict) else {}
    settings = _convert(document, [root], source)
    if not isinstance(overlays, dict):
        raise _fault(source, root.find(["plugins"]), "expected a mapping from plugin names to settings")
    plugins = Document(overlays, root.place.names["plugins"][2]) if overlays else root
    for name, overlay in overlays.items():
        overlaid = _convert(_merged(document, overlay), [plugins.part(name), root], source)
        settings = overlaid if name == plugin else settings
    return settings


_HOW = "Pass it as --config FILE, or set SEALGATE_CONFIG to its path or SEALGATE_CONFIG_YAML to its text"


def _missing(section: str) -> NotConfigured:
    fact = f"the configuration has no section {section}"
    return NotConfigured(fact, says="configuration", remedy=f"Add {section} to it")


def document(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the text of the configuration, and its source: a path, or the name of the variable that contains it.

    Raises:
        NotConfigured: no configuration is set, two are, or the file cannot be read.
    """
    inline, path = environment.get("SEALGATE_CONFIG_YAML"), environment.get("SEALGATE_CONFIG")
    if inline and path:
        raise NotConfigured("both SEALGATE_CONFIG and SEALGATE_CONFIG_YAML are set", remedy="Unset one of them")
    if inline:
        return inline, "SEALGATE_CONFIG_YAML"
    if not path:
        raise NotConfigured("there is no configuration", says="environment", remedy=_HOW)
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(LONGEST + 1), path
    except UnicodeDecodeError:
        raise NotConfigured(f"the configuration {path} is not UTF-8", remedy="Write it as YAML or JSON") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise NotConfigured(f"the configuration {path} cannot be read: {reason}", remedy=_HOW) from None


def _merged(base: Any, overlay: Any) -> Any:
    """Merge mappings field by field; every other value of `overlay` replaces that of `base`."""
    if not isinstance(base, dict) or not isinstance(overlay, dict):
        return overlay
    return {**base, **{name: _merged(base.get(name), value) for name, value in overlay.items()}}


def _convert(value: Any, documents: Sequence[Document], source: str) -> Settings:
    """Validate `value`, and find faults in `documents`: the overlay that it comes from first, then the base."""
    settings, faults = converted(value, Settings, _decode)
    if settings is None:
        place = max((document.find(faults[0].path) for document in documents), key=lambda place: place[0])
        raise _fault(source, place, one_line(faults[0].fact))
    origin = next((d for d in documents if isinstance(d.value, dict) and "policies" in d.value), None)
    policies = tuple(
        origin.part("policies", str(number)) if origin and isinstance(policy, dict) else Path(policy)
        for number, policy in enumerate(settings.policies)
    )
    return msgspec.structs.replace(settings, policies=policies)


def _fault(source: str, place: tuple[int, int, int], fact: str) -> NotConfigured:
    return NotConfigured(f"{source}:{place[1]}:{place[2]}: {fact}", says="configuration")


def _decode(kind: type, value: Any) -> Any:
    """Convert `value` to a `Path` or a `Duration`, the two types that msgspec does not know."""
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is Duration and isinstance(value, str):
        number = value.rstrip("mhs")
        unit = _UNITS.get(value[len(number) :])
        if unit is not None and number.isascii() and number.replace(".", "", 1).isdigit():
            seconds = float(number) * unit
            if seconds > _LONGEST_DURATION:
                raise ValueError("a duration may be at most `168h`")
            return Duration(seconds)
    raise ValueError(f"expected {'a path' if kind is Path else 'a duration such as `30s` or `10m`'}")
