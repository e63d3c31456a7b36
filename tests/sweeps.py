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
_STATES_IN_EVERY_RUN = (
    "https:// in front of a server without TLS",
    "a private authority that no setting names",
    "requirePolicy is yes",
    "VAULT_TOKEN is not set",
    "the key's name is mistyped",
    "data is sealed under the key that signs",
    "a policy names a key that the role may not use",
    "an audit file is on a read-only disk",
    "no key signs the audit trail",
    "the key that signs is not there, or the role may not use it",
    "the key that signs is of another type",
    "another program has the port of the metrics",
    "the downstream crashes",
    "policies allow encrypt and decrypt alone",
    "the key is in an HSM or KMS",
    "the path of the downstream's socket is too long everywhere",
    "the downstream ends at once",
    "the downstream reports success and deletes nothing",
)
_MATRIX_IN_EVERY_RUN = (
    "the downstream is killed during the call",
    "the downstream hangs, and the caller cancels",
    "the disk of the spool becomes full during the call",
)
_BY_FILE = r"\[(?:by_)?file-"
_STORES_IN_EVERY_RUN = (
    "4194305",
    "tree0",
    "nothing",
    "tree-other kinds",
    "tree",
    "tree-20",
    "sizes3",
    'spoil_with_link-"sub/bad".*symbolic link',
    "relative",
    "Cancelled",
)
"""Of each test of artifacts with rows: the row that runs on every store. `file` and `versitygw` run all of them."""
_STORES_THROUGH_THE_SOCKET = (
    "directory",
    "memory",
    "s3: versitygw, options beside variables that contradict them",
    "s3: versitygw, keys of a profile in the shared file",
    "s3: moto, virtual-hosted style",
    "s3: moto, keys of EKS Pod Identity",
    "s3: moto that answers bulk deletions with 501",
    "s3: moto without create-only writes",
    "az: Azurite, options beside variables that contradict them",
    "gs: stand-in for the XML interface, unsigned",
)


def _all_but(rows: tuple[str, ...]) -> str:
    """Return a pattern for the names of tests of all rows but these."""
    return r"\[(?!(?:" + "|".join(map(re.escape, rows)) + r")\])"


SWEEPS = {
    "argo/test_audit_trail.py": r"(?:full_disk|killed_before|blocked_pipe).*\[(?:OpenStream|SaveStream)\]"
    r"|full_disk.*\[(?:Delete|ListObjects)\]",
    "argo/test_directories.py": r"\[(?:vendor|bundled) auto|\[bundled file|\[vendor (?:file-second|stream-first)"
    r"|without_its_manifest\[(?:vendor-stream|bundled-file)",
    "argo/test_fault_matrix.py": _all_but(_MATRIX_IN_EVERY_RUN),
    "argo/test_faults.py": _BY_FILE
    + r"|absent_downstream.*-(?:file|auto)\]|dies_is_unavailable.*(?:OpenStream|SaveStream)\]",
    "argo/test_killed_saves.py": r"whole_directory_or_none\[s3\]",
    "argo/test_observability.py": _BY_FILE,
    "argo/test_open_stream.py": r"test_52_aborted_streams.*\[(?:by_file|bundled)\]",
    "argo/test_protocol.py": r"test_62_a_hundred.*\[(?:by_file|by_stream)\]",
    "argo/test_save.py": r"test_12_memory_does_not_grow_with_the_artifact\[stream\]",
    "argo/test_traces.py": _BY_FILE + r"|absent_collector.*\[(?:init-|.*-hangs\])|library_refuses.*\[(?:0|x|zstd)\]",
    "argo/test_second_vendor.py": r"enforced, file|no policy, stream|write once, stream",
    "argo/test_second_vendor_contract.py": r"test_52_|no policy|enforced|, stream",
    "backend/test_backend_artifacts.py": r"\[(?:moto|gcs|azurite)-(?!(?:"
    + "|".join(map(re.escape, _STORES_IN_EVERY_RUN))
    + r")\])|(?:more_objects_than_one_request|many_callers|not_read_to_the_end).*\[moto\]",
    "backend/test_backend_names.py": r"\[moto\]",
    "backend/test_foreign_keys.py": r"exactly_what_was_saved_or_refused\[file\]"
    r"|all_kinds.*\[moto-(?:unsigned|request_payer|server_side)",
    "backend/test_store_table.py": r"through_the_socket" + _all_but(_STORES_THROUGH_THE_SOCKET),
    "backend/test_store_precedence.py": r"configured_credentials\[(?:False-s3|True-gs|False-az)\]",
    "backend/test_write_once.py": r"\[(?:moto|gcs|azurite)-.*-20971520\]|(?:store_one|nothing_behind)\[moto\]",
    "keys/vault/test_rewrap_command.py": r"downstream_that_hangs.*\[(?:ListObjects|OpenStream)\]",
    "keys/vault/test_vault_fault_table.py": _all_but(_FAULTS_IN_EVERY_RUN),
    "keys/vault/test_doctor_faults.py": _all_but(_STATES_IN_EVERY_RUN),
}
"""By test file, beneath `tests/`: what the name of a test contains if it runs in `make test-large` alone."""


def is_sweep(file: str, name: str) -> bool:
    """Return whether the test `name` of `file` runs in `make test-large` alone."""
    return file in SWEEPS and re.search(SWEEPS[file], name) is not None
