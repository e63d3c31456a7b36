"""The output of a run: a table, and JSON with all samples."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Row, Target
from bench.setting import MIB, Setting, in_memory

_COMPARED = "for comparison"
HEADS = ("row", "ours", "against", "ratio", "target", "met")


def machine(setting: Setting) -> dict[str, Any]:
    """Return the facts besides the program that the figures depend on."""
    models = [
        line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": models[0] if models else platform.machine(),
        "load at the start": setting.load,
        "python": platform.python_version(),
        "place": "memory (tmpfs)" if in_memory(setting.place) else "disk",
        "runs": setting.runs,
        "file MiB": setting.size / MIB,
        "large file MiB": setting.large / MIB,
        "files of the directory": setting.files,
    }


def shown(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """Return the table in Markdown, with aligned columns."""
    lines = [HEADS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    widths[-1] = len(HEADS[-1])
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([facts_line(facts), "", *drawn])


def facts_line(facts: Mapping[str, Any]) -> str:
    """Return the facts of the machine in one line."""
    return ", ".join(f"{name}: {fact}" for name, fact in facts.items())


def kept(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """Return the rows with every sample as JSON."""
    return json.dumps({"machine": facts, "rows": [_document(row) for row in rows]}, indent=1, ensure_ascii=False)


def read(text: str) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows and the facts that `kept` wrote."""
    found = json.loads(text)
    return [_row(document) for document in found["rows"]], found["machine"]


def cells(row: Row) -> tuple[str, ...]:
    """Return the line of the table."""
    if row.figure is None:
        return row.name, "-", row.peer, "-", _bound(row), f"not measured: {row.reason}"
    verdict = _COMPARED if row.target is None else "yes" if row.met else f"no: {row.reason}"
    return (
        row.name,
        _amount(row.ours, row.unit),
        f"{row.peer} {_amount(row.theirs, row.unit)}",
        f"{row.figure:.2f}",
        _bound(row),
        verdict,
    )


def _bound(row: Row) -> str:
    return "-" if row.target is None else str(row.target)


def _amount(amount: float | None, unit: str) -> str:
    return "-" if amount is None else f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def _document(row: Row) -> dict[str, Any]:
    return {
        "row": row.name,
        "ours": row.ours,
        "against": row.peer,
        "theirs": row.theirs,
        "unit": row.unit,
        "ratio": row.figure,
        "target": _bound(row),
        "met": row.met,
        "reason": "" if row.met else row.reason if row.target else _COMPARED,
        "samples": row.samples,
    }


def _row(document: Mapping[str, Any]) -> Row:
    return Row(
        name=document["row"],
        peer=document["against"],
        target=None if document["target"] == "-" else Target.read(document["target"]),
        ours=document["ours"],
        theirs=document["theirs"],
        unit=document["unit"],
        figure=document["ratio"],
        reason=document["reason"],
        samples=document["samples"],
    )
