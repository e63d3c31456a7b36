"""What an author reaches who may patch the pod, because no admission policy acts: the row of the threat model.

The tenants share the roles in Vault, as in the installation that the page on Helm describes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cluster.images import SEALGATE
from cluster.scene import Scene
from cluster.thieves import TREASURE, failed, hidden_treasure, no_admission, own_configuration, tried, variables
from cluster.workflows import step
from harness.s3 import SECRET

PYTHON = "/opt/sealgate/bin/python3"
_ASK = """
import grpc
from sealgate.rpc import artifact_pb2 as pb
channel = grpc.insecure_channel("unix:/stolen/socket")
grpc.channel_ready_future(channel).result(120)
ask = channel.unary_stream("/artifact.ArtifactService/OpenStream",
    request_serializer=pb.OpenStreamRequest.SerializeToString,
    response_deserializer=pb.OpenStreamResponse.FromString)
key = pb.PluginArtifact(name="crypt", key="KEY", configuration="{}")
try:
    for frame in ask(pb.OpenStreamRequest(artifact=pb.Artifact(name="it", plugin=key)), timeout=120):
        print("answer", frame.data, frame.error)
except grpc.RpcError as error:
    print("answer", error.code(), error.details())
"""
"""What a step's own container runs that has the plugin's socket: it asks for an artifact as Argo does."""


@pytest.fixture(scope="module")
def treasure(installed: Scene) -> str:
    return hidden_treasure(installed)


@pytest.fixture(scope="module", autouse=True)
def _without_admission(installed: Scene, treasure: str) -> Iterator[None]:
    with no_admission(installed):
        yield


def test_a_configuration_of_the_authors_opens_what_the_role_of_all_tenants_may_open(installed: Scene, treasure: str):
    """The threat model says so, and names the two ways to prevent it: admission, and a role for each tenant."""
    own = variables(SEALGATE_CONFIG_YAML=own_configuration(installed))
    found = tried(installed, treasure, env=own)
    assert found.phase == "Succeeded", found.messages()
    assert TREASURE in found.logs()


def test_a_command_of_the_authors_reads_the_credentials_of_the_storage(installed: Scene, treasure: str):
    """The threat model says so."""
    command = [PYTHON, "-c", "import os; print('taken', os.environ['AWS_SECRET_ACCESS_KEY']); raise SystemExit(1)"]
    found = tried(installed, treasure, command=command, args=[])
    assert failed(found)
    assert f"taken {SECRET}" in found.logs(), found.logs()


def test_a_second_configuration_beside_that_of_the_chart_is_refused(installed: Scene, treasure: str):
    message = failed(tried(installed, treasure, env=variables(SEALGATE_CONFIG="/dev/null")))
    assert "both SEALGATE_CONFIG and SEALGATE_CONFIG_YAML are set" in message, message


def test_a_claim_to_be_another_account_does_not_count(installed: Scene, treasure: str):
    claim = variables(SEALGATE_NAMESPACE="argo", SEALGATE_SERVICE_ACCOUNT="argo-server")
    message = failed(tried(installed, treasure, env=claim))
    assert "no allow rule covers this key for namespace team-b" in message, message


def test_the_plugins_socket_in_the_container_of_a_step_obeys_the_policies(installed: Scene, treasure: str):
    mount = {"name": "artifact-plugin-crypt", "mountPath": "/stolen"}
    patch = json.dumps({"containers": [{"name": "main", "volumeMounts": [mount]}]})
    read = step("read", "")
    read["container"] |= {"image": SEALGATE, "command": [PYTHON, "-c", _ASK.replace("KEY", treasure)]}
    found = installed.submit("team-b", read, podSpecPatch=patch).ended()
    answers = [line for line in found.logs().splitlines() if line.startswith("answer")]
    assert answers, found.messages()
    assert all("no allow rule covers this key for namespace team-b" in answer for answer in answers), answers
    assert TREASURE not in found.logs()
