"""Builds the stack from the settings. `serve`, `doctor`, `rewrap` and the recovery commands use the same builders."""
