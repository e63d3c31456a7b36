"""The same texts, parsed by Argo's own types: where SEALGATE_TEST_ARGO_SOURCE names a checkout of Argo Workflows."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from harness.golang import built
from rendering import MATRIX, ROOT

pytestmark = pytest.mark.timeout(1800, func_only=False)


@pytest.fixture(scope="session")
def parse(tmp_path_factory):
    source = os.environ.get("SEALGATE_TEST_ARGO_SOURCE")
    if not source:
        pytest.skip("SEALGATE_TEST_ARGO_SOURCE names no checkout of Argo Workflows, and its Go module is not published")
    place = tmp_path_factory.mktemp("go") / "argo-parser"
    shutil.copytree(Path(__file__).with_name("argo"), place)
    # Argo's own versions of everything that it needs.
    module = (Path(source) / "go.mod").read_text().partition("\n")[2]
    argo = "github.com/argoproj/argo-workflows/v4"
    own = f"module argo-parser\n{module}\nrequire {argo} v4.0.0\nreplace {argo} => {Path(source).absolute()}\n"
    (place / "go.mod").write_text(own)
    shutil.copy(Path(source) / "go.sum", place)
    program = built(place, "-mod=mod")

    def parse(kind, document):
        done = subprocess.run(
            [program, kind], input=yaml.safe_dump(document), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return parse


@pytest.mark.parametrize("case", MATRIX)
def test_argo_parses_the_controller_s_configuration(parse, of, case):
    parse("Config", of(case).controller())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_argo_parses_the_examples(parse, path):
    for document in yaml.safe_load_all(path.read_text()):
        if document["apiVersion"].startswith("argoproj.io/"):
            parse(document["kind"], document)


def test_it_refuses_what_argo_does_not_know(parse):
    with pytest.raises(AssertionError, match="nothingOfArgo"):
        parse("Config", {"nothingOfArgo": 1})
