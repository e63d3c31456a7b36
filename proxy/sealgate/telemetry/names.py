"""The names of all attributes and metrics, in one file because OpenTelemetry still renames some of its own."""

from __future__ import annotations

SERVICE = "sealgate"
BACKEND_SERVICE = "sealgate-backend"

# OpenTelemetry's conventions for RPC, version 1.44.
STATUS_CODE = "rpc.response.status_code"
ERROR_TYPE = "error.type"
RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
OLD_STATUS_CODE = "rpc.grpc.status_code"
"""The status as a number, from the instrumentation. It is replaced by `STATUS_CODE` and never exported."""

# Attributes of the resource, from Argo and Kubernetes.
WORKFLOW_NAME = "argo.workflow.name"
WORKFLOW_UID = "argo.workflow.uid"
NODE_ID = "argo.node.id"
POD_NAME = "k8s.pod.name"
POD_UID = "k8s.pod.uid"
NAMESPACE = "k8s.namespace.name"

# Sealgate's own attributes of spans.
OPERATION = "sealgate.operation"
CALL_ID = "sealgate.call.id"
COMPONENT = "sealgate.component"
DECISION = "sealgate.policy.decision"
PROPOSED = "sealgate.policy.proposed"
CODE = "sealgate.policy.code"
POLICY = "sealgate.policy.name"
RULE = "sealgate.policy.rule"
PLAINTEXT_BYTES = "sealgate.bytes.plaintext"
STORED_BYTES = "sealgate.bytes.ciphertext"
FILES = "sealgate.files"
KEY_NAME = "sealgate.key.name"
KEY_VERSION = "sealgate.key.version"
AUDIT_CHAIN = "sealgate.audit.chain_uid"
AUDIT_SEQUENCE = "sealgate.audit.seq"
VAULT_REQUEST_ID = "sealgate.vault.request_id"

# Attributes of metrics only.
DIRECTION = "direction"
MODE = "sealgate.policy.mode"
SINK = "sealgate.audit.sink"
REASON = "sealgate.audit.reason"
PHASE = "sealgate.audit.phase"
SOURCE = "sealgate.key.source"

# Metrics.
CALL_DURATION = "rpc.server.call.duration"
ARTIFACT_SIZE = "sealgate.artifact.size"
VAULT_DURATION = "sealgate.vault.request.duration"
DECISIONS = "sealgate.policy.decisions"
WOULD_DENY = "sealgate.policy.would_deny"
AUDIT_RECORDS = "sealgate.audit.records"
AUDIT_FAILURES = "sealgate.audit.failures"
PLAINTEXT_READS = "sealgate.plaintext_reads"
DATA_KEYS = "sealgate.data_keys"
PLUGIN_INFO = "sealgate_plugin_info"
"""On the page for Prometheus: the plugin that serves the page (`name`), and its version."""
