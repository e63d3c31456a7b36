"""What `sealgate doctor` checks of metrics: the port of the page for Prometheus."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator

from sealgate.call import Call
from sealgate.cli.doctor.checks import Check, CheckResult, failed, not_checked, ok, warning
from sealgate.config import PrometheusSettings, TelemetrySettings
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, endpoint

_OWNER = re.compile(rf'^{names.PLUGIN_INFO}\{{name="([^"]*)"', re.MULTILINE)
_PATIENCE = 5.0
"""Seconds for the answer of a page."""
_LARGEST_PAGE = 4 << 20
_ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound
_REMEDY = "Set telemetry.prometheus.port, under plugins.NAME if several plugins share this pod, to a free port"


class MetricsChecks:
    """Checks that metrics can be exported.

    Args:
        settings: the section `telemetry`.
        plugin: the name of the plugin; empty if it is unknown.
    """

    def __init__(self, settings: TelemetrySettings, plugin: str) -> None:
        self._settings = settings
        self._plugin = plugin

    def checks(self) -> list[Check]:
        """Return the check; none if no metrics are configured."""
        return [] if self._settings.metrics == "none" else [Check("metrics", self._metrics)]

    def _metrics(self, _: Call) -> Iterator[CheckResult]:
        if self._settings.metrics == "otlp":
            if address := endpoint(Signal.METRICS, os.environ):
                yield ok(f"metrics are pushed to {address}; the collector was not asked")
            else:
                yield warning("metrics are not exported: no collector is configured", "Set OTEL_EXPORTER_OTLP_ENDPOINT")
            return
        yield self._page(self._settings.prometheus)

    def _page(self, page: PrometheusSettings) -> CheckResult:
        from sealgate.telemetry.metrics import Page, try_page  # noqa: PLC0415 - loads OpenTelemetry, if it is needed

        at = f"{page.address}:{page.port}"
        try:
            try_page(Page(page.address, page.port))
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "no such address"
        else:
            return ok(f"{at} is free for the page of metrics")
        owner = _owner_of(page)
        if owner is None:
            return failed(f"metrics cannot be served on {at}: {reason}", _REMEDY)
        if not self._plugin:
            return not_checked(f"the plugin {owner} serves its metrics on {at}", "Add --plugin or --socket")
        if owner != self._plugin:
            return failed(f"metrics cannot be served on {at}: the plugin {owner} serves its own there", _REMEDY)
        return ok(f"this plugin already serves its metrics on {at}")


def _owner_of(page: PrometheusSettings) -> str | None:
    """Return the name of the plugin whose page is there; None if it is not a page of Sealgate's."""
    host = "localhost" if page.address in _ANY else page.address
    connection = http.client.HTTPConnection(host, page.port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(_LARGEST_PAGE).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found = _OWNER.search(text)
    return found[1] if found else None
