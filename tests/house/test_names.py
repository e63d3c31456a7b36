"""One name, one concept: a class name, public or private, belongs to one class of the product."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "proxy" / "sealgate"


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name.endswith("_pb2.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert len(places) > 100
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert not shared


def test_only_the_entry_of_serve_imports_the_composition_late():
    late = []
    for path in sorted(SOURCE.rglob("*.py")):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        late += [
            str(path.relative_to(SOURCE))
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sealgate.compose")
        ]
    assert set(late) <= {"cli/serve.py"}
