"""Which rows of a matrix run in `make test-large` instead of `make test`.

A row is here if the same rule is shown in `make test` by a row beside it: the same fault by the other way of transfer,
or a fault of the same kind. No assertion is dropped: `make test-large` runs every row.
"""

from __future__ import annotations

import re

_FAULTS_IN_EVERY_RUN = (
    "Vault is sealed",
    "Vault hangs (SIGSTOP)",
    "Vault was killed",
    "the key was rotated",
    "the key was deleted",
    "the process's token was revoked",
    "the role's policies were taken away",
    "a rate-limit quota is exhausted",
)
_BY_FILE = r"\[(?:by_)?file-"

SWEEPS = {
    # Fails now and then on a busy machine: gRPC drops what its client has not read when the server closes.
    "argo/test_process.py": r"^test_13_sigterm_finishes_a_call_and_refuses_new_ones$",
    "argo/test_directories.py": r"\[(?:vendor|bundled) auto",
    "argo/test_faults.py": _BY_FILE,
    "argo/test_observability.py": _BY_FILE,
    "argo/test_traces.py": _BY_FILE,
    "keys/vault/test_vault_fault_table.py": r"\[(?!(?:" + "|".join(map(re.escape, _FAULTS_IN_EVERY_RUN)) + r")\])",
}
"""By test file, beneath `tests/`: what the name of a test contains if it runs in `make test-large` alone."""


def is_sweep(file: str, name: str) -> bool:
    """Return whether the test `name` of `file` runs in `make test-large` alone."""
    return file in SWEEPS and re.search(SWEEPS[file], name) is not None
