"""Builds the stack from the settings. `serve`, `doctor`, `rewrap` and `demo` use the same builders."""
