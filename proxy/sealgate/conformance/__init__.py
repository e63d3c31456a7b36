"""Checks whether any artifact plugin keeps Argo's contract (docs/argo-contract.md): `sealgate conformance`.

`checks` says what a check is, and runs them. `client` calls a plugin as Argo does. `workspace` holds the keys and the
local paths of one run, and removes them. The other modules hold the checks, one concern each; `catalogue` lists them.
"""
