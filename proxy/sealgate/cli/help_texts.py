"""What the help of each command shows below its options: examples, and the variables of the environment that matter."""

from __future__ import annotations

_CONFIGURATION = ("SEALGATE_CONFIG", "SEALGATE_CONFIG_YAML")
_VAULT = ("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_CACERT", "VAULT_CACERT_BYTES", "VAULT_TOKEN")
_KEYS = (*_CONFIGURATION, *_VAULT, "SEALGATE_NAMESPACE")
_BACKEND = ("SEALGATE_BACKEND_URL", "SEALGATE_BACKEND_CONFIG")
_WIDTH = 27
"""Characters of the column of variables."""

MEANINGS = {
    "SEALGATE_CONFIG": "the path of the configuration",
    "SEALGATE_CONFIG_YAML": "the configuration itself, instead of its path",
    "SEALGATE_BACKEND_URL": "where sealgate backend stores, such as s3://bucket/prefix",
    "SEALGATE_BACKEND_CONFIG": "a YAML mapping with options of that store",
    "SEALGATE_NAMESPACE": "the Kubernetes namespace, instead of that of the service account",
    "VAULT_ADDR": "the address of Vault, unless the configuration has one",
    "VAULT_NAMESPACE": "the namespace in Vault, unless the configuration has one",
    "VAULT_CACERT": "a file with the certificate of Vault's authority",
    "VAULT_CACERT_BYTES": "the certificate itself, instead of its file",
    "VAULT_TOKEN": "the token of the login method `token`",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces, metrics and audit records are sent",
    "NO_COLOR": "set to any text, it turns off colours",
}
"""What each variable means."""

VARIABLES: dict[str, tuple[str, ...]] = {
    "": (*_CONFIGURATION, "NO_COLOR"),
    "serve": (*_KEYS, *_BACKEND, "OTEL_EXPORTER_OTLP_ENDPOINT", "NO_COLOR"),
    "backend": (*_BACKEND, "NO_COLOR"),
    "init": ("VAULT_ADDR", "VAULT_NAMESPACE", "SEALGATE_BACKEND_URL", "SEALGATE_NAMESPACE"),
    "seal": _KEYS,
    "open": _KEYS,
    "rewrap": (*_KEYS, *_BACKEND),
    "doctor": (*_KEYS, *_BACKEND, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "policy": _CONFIGURATION,
    "policy check": _CONFIGURATION,
    "audit": (*_CONFIGURATION, *_VAULT),
    "audit verify": (*_CONFIGURATION, *_VAULT),
    "audit report": (*_CONFIGURATION, *_VAULT),
    "audit public-key": (*_CONFIGURATION, *_VAULT),
}
"""The variables that matter most to a command. A command that is not here reads none of them."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "sealgate demo",
        "sealgate init deploy --address https://vault:8200 --storage s3://artifacts --namespace team-a",
        "sealgate doctor --config deploy/sealgate.yaml",
    ),
    "serve": (
        "sealgate serve /tmp/artifact-plugins/crypt/socket",
        "sealgate serve --config sealgate.yaml /tmp/artifact-plugins/crypt/socket",
    ),
    "backend": ("SEALGATE_BACKEND_URL=s3://artifacts sealgate backend /tmp/artifact-plugins/store/socket",),
    "init": (
        "sealgate init",
        "sealgate init deploy --address https://vault:8200 --storage s3://artifacts --namespace team-a",
    ),
    "demo": ("sealgate demo", "sealgate demo --file model.bin"),
    "seal": (
        "sealgate seal report.txt report.sealed --artifact-key ns/train/report.txt",
        "tar c data | sealgate seal - data.sealed --unbound",
    ),
    "open": (
        "sealgate open report.sealed report.txt --artifact-key ns/train/report.txt",
        "sealgate open data.sealed - | tar x",
    ),
    "inspect": ("sealgate inspect report.sealed", "sealgate inspect - -o json < report.sealed"),
    "rewrap": ("sealgate rewrap --all --list", "sealgate rewrap ns --rate 20 -o json"),
    "doctor": ("sealgate doctor --plugin crypt --role saver", "sealgate doctor --config sealgate.yaml --offline"),
    "conformance": (
        "sealgate conformance /tmp/artifact-plugins/s3/socket",
        "sealgate conformance --largest 64KiB --files 50 -- sealgate backend",
    ),
    "policy": (
        "sealgate policy check policies",
        "sealgate policy explain --policy policies --op Load --key team-a/model.tgz --namespace team-a",
    ),
    "policy check": ("sealgate policy check policies", "sealgate policy check --config sealgate.yaml --strict"),
    "policy test": ("sealgate policy test policies --coverage", "sealgate policy test policies -o junit > report.xml"),
    "policy explain": (
        "sealgate policy explain --policy policies --op Load --key team-a/model.tgz --namespace team-a",
        "sealgate policy explain --policy policies --op Save --key team-a/model.tgz --size 6GiB -o json",
    ),
    "policy diff": ("sealgate policy diff old.yaml new.yaml", "sealgate policy diff old new -o json"),
    "policy prove": (
        "sealgate policy prove --policy policies --never 'op=read keys=pci/** unless namespace=payments'",
    ),
    "policy replay": (
        "sealgate policy replay --policy new.yaml audit.jsonl",
        "kubectl logs train-7x2p | sealgate policy replay --policy new.yaml -",
    ),
    "policy schema": ("sealgate policy schema > policy.schema.json",),
    "policy library": ("sealgate policy library", "sealgate policy library pci > policies/pci.yaml"),
    "audit": ("sealgate audit verify audit.jsonl", "sealgate audit report audit.jsonl --to report.html"),
    "audit verify": (
        "sealgate audit verify audit.jsonl",
        "sealgate audit verify --certifier certifier.pem -o json january.jsonl february.jsonl",
    ),
    "audit query": (
        "sealgate audit query audit.jsonl --key 'team-a/*' --operation Load --since 7d",
        "kubectl logs train-7x2p | sealgate audit query - --decision denied -o csv",
    ),
    "audit report": (
        "sealgate audit report audit.jsonl --certifier certifier.pem --since 7d --to report.html",
        "sealgate audit report audit.jsonl --artifact-key team-a/model.tgz --to readers.html",
    ),
    "audit public-key": ("sealgate audit public-key > certifier.pem",),
    "completion": (
        "sealgate completion bash > ~/.local/share/bash-completion/completions/sealgate",
        "sealgate completion fish > ~/.config/fish/completions/sealgate.fish",
    ),
}
"""Command lines of each command, which a test parses. The name of a command has no `sealgate`; `""` is `sealgate`."""


def shown_below(program: str) -> str:
    """Return the examples and the variables of `program`, such as "sealgate policy check", as text."""
    name = program.partition(" ")[2]
    text = "".join(f"\n  {line}" for line in EXAMPLES.get(name, ()))
    shown = f"\nexamples:{text}\n" if text else ""
    text = "".join(f"\n  {variable:<{_WIDTH}}  {MEANINGS[variable]}" for variable in VARIABLES.get(name, ()))
    return f"{shown}\nenvironment variables:{text}\n" if text else shown
