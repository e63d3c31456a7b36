"""Where a new metric, span attribute or log field is added (docs/telemetry.md).

`reporting` passes each call on to `tracing` and `metrics`. `names` lists the names of attributes and metrics,
`environment` reads the `OTEL_*` variables, `resource` describes this process, and `log` writes the log through
`line_writer`.
"""
