"""`sealgate policy library`: list or print the documents that ship with the package."""

from __future__ import annotations

import argparse
import json
import sys

from sealgate import library
from sealgate.cli.exit_codes import DONE
from sealgate.cli.shared_options import add_output_option
from sealgate.errors import BadRequest, one_line

SUMMARY = "list the policies that ship with Sealgate, or print one"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate policy library` to `parser`."""
    parser.description = "Without NAME, lists name, path and first comment line of each document."
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a document to print, such as pci, pci.test or vault/saver"
    )
    add_output_option(parser, "text", "json")


def run(options: argparse.Namespace) -> int:
    """Print the list, or the document that is named.

    Raises:
        BadRequest: no document has that name.
    """
    documents = library.documents()
    if options.name is None:
        print(_json(documents) if options.output == "json" else _text(documents))
        return DONE
    for document in documents:
        if document.name == options.name:
            sys.stdout.buffer.write(document.path.read_bytes())
            return DONE
    raise BadRequest(
        f"the library has no document {options.name!r}",
        says="command line",
        remedy=f"Name one of {', '.join(document.name for document in documents)}",
    )


def _text(documents: list[library.LibraryDocument]) -> str:
    """Return one line for each document, in columns."""
    names = max(len(document.name) for document in documents)
    paths = max(len(str(document.path)) for document in documents)
    return "\n".join(
        one_line(f"{document.name:<{names}}  {document.path!s:<{paths}}  {document.comment}").rstrip()
        for document in documents
    )


def _json(documents: list[library.LibraryDocument]) -> str:
    rows = [{"name": document.name, "path": str(document.path), "comment": document.comment} for document in documents]
    return json.dumps(rows, indent=2)
