"""What everything that is exported says of the process that it comes from: one rule for spans, metrics and copies.

This module loads OpenTelemetry, as those do that stand on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource

from sealgate import program_version
from sealgate.telemetry import names

_OF_ONE_PROCESS = ("k8s.pod.", "argo.", "service.instance.id")
"""How the names begin of what is another for each process."""


def resource(service: str, facts: Mapping[str, str]) -> Resource:
    """The program and `facts`, with what `OTEL_RESOURCE_ATTRIBUTES` adds; `service` where nobody names it otherwise."""
    own = {"service.version": program_version()} | {name: value for name, value in facts.items() if value}
    made = Resource.create(dict(own))
    if str(made.attributes.get("service.name", "")).startswith("unknown_service"):  # OpenTelemetry's own word for none
        made = made.merge(Resource({"service.name": service}))
    return made


def of_many_processes() -> Resource:
    """For metrics: each pod and each workflow in it would be a series of its own, whoever put it there."""
    made = resource(names.SERVICE, {})
    kept = {name: value for name, value in made.attributes.items() if not name.startswith(_OF_ONE_PROCESS)}
    return Resource(kept, made.schema_url)
