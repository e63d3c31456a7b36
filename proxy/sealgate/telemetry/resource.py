"""Which attributes describe this process in all that is exported: spans, metrics and copies of the audit trail.

This module loads OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource

from sealgate import program_version
from sealgate.telemetry import names

_PER_PROCESS_PREFIXES = ("k8s.pod.", "argo.", "service.instance.id")
"""The names of attributes that differ from process to process start with one of these."""


def resource(service: str, facts: Mapping[str, str]) -> Resource:
    """Return the resource of this process, including the attributes of `OTEL_RESOURCE_ATTRIBUTES`.

    Args:
        service: the name of the service, unless an `OTEL_*` variable gives another.
        facts: further attributes; those with an empty value are left out.
    """
    own = {"service.version": program_version()} | {name: value for name, value in facts.items() if value}
    made = Resource.create(dict(own))
    if str(made.attributes.get("service.name", "")).startswith("unknown_service"):  # OpenTelemetry's default
        made = made.merge(Resource({"service.name": service}))
    return made


def resource_of_metrics() -> Resource:
    """Return the resource for metrics, without attributes of a single process, which would each make a new series."""
    made = resource(names.SERVICE, {})
    kept = {name: value for name, value in made.attributes.items() if not name.startswith(_PER_PROCESS_PREFIXES)}
    return Resource(kept, made.schema_url)
