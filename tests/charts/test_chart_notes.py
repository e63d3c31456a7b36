"""The notes after the installation: each command in them uses something that was rendered."""

import re
import shutil

import pytest
from harness.rendering import CHART, MATRIX

pytestmark = pytest.mark.timeout(900, func_only=False)


@pytest.fixture(scope="module")
def notes(helm, tmp_path_factory):
    """Return the notes of a case. Helm prints them only with a cluster, so a copy of the chart renders them."""
    chart = tmp_path_factory.mktemp("chart") / "sealgate"
    shutil.copytree(CHART, chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "_notes.tpl").write_text('{{- define "notes" -}}' + text + "{{- end -}}")
    (chart / "templates" / "notes.yaml").write_text(
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: the-notes}\ndata: {text: {{ include "notes" . | toJson }}}\n'
    )
    copy = helm.of_chart(str(chart))

    def notes(case, *options):
        values = ("--values", str(CHART / "ci" / f"{case}.yaml"))
        return copy.rendered(*values, *options).the("ConfigMap", "the-notes")["data"]["text"]

    return notes


@pytest.mark.parametrize("case", MATRIX)
def test_each_configmap_and_key_that_the_notes_name_was_rendered(notes, of, case):
    text = notes(case)
    assert of(case).controller()["artifactDrivers"][0]["image"] in text
    named = re.findall(r"-n (\S+) get configmap (\S+) -o jsonpath='\{\.data\.([^}]*)\}'", text)
    assert len(named) >= 2
    for namespace, name, key in named:
        found = of(case).the("ConfigMap", name)
        assert found["metadata"]["namespace"] == namespace
        assert key.replace("\\", "") in found["data"], key


def test_the_notes_list_only_the_steps_that_apply(notes):
    assert "vault-setup" in notes("default")
    assert "vault-setup" not in notes("local-keys")
    assert "merge this into its ConfigMap" in notes("by-hand")
    # With --logs helm searches for the pods in the release's namespace, and fails.
    assert "helm test release-name -n sealgate\n" in notes("default")
    assert "helm test" not in notes("by-hand")
    assert "admission.enabled" in notes("default")
    assert "admission.enabled" not in notes("everything")


def test_the_notes_say_when_argo_helms_controller_reads_the_configmap(notes):
    text = " ".join(notes("default").split())
    assert "argo-helm's controller reads one of another name until step 4" in text
    assert "read anew by itself" not in text
    assert "names the accounts of the server and the controller: argo-server and argo." in text


RESTARTS = (
    "delete pod --selector app=workflow-controller\n",
    "restart deployment argo-workflows-workflow-controller\n",
)


@pytest.mark.parametrize("case", ["default", "by-hand", "everything"])
def test_the_notes_restart_the_controller_after_its_configmap_has_changed(notes, case):
    text = notes(case)
    places = [text.index(found) for found in (RESTARTS[0], "\n4. ", "helm upgrade argo-workflows", RESTARTS[1])]
    assert places == sorted(places)
    assert text.index("3. The controller:") < places[0]


def test_the_notes_warn_of_a_context_that_does_not_separate_tenants(notes):
    assert "WARNING: keys.vault.context" in notes("everything")
    role = ("--set", "configuration.keys.vault.auth.role=tenant-${identity.namespace}", "--set", "vault.setup=false")
    assert "WARNING: keys.vault.context" not in notes("everything", *role)
    assert "WARNING" not in notes("default")


def test_the_notes_warn_of_a_trail_that_is_not_signed(notes):
    unsigned = ("--set", "configuration.audit.signingKey=")
    assert "WARNING: the audit trail is not signed" in notes("default", *unsigned)
    assert "WARNING" not in notes("local-keys", *unsigned)
