"""Where the package raises and warns, and with which words: read from its source."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import sm_multilevel

ROOT = Path(sm_multilevel.__file__).parent
# Not for users: what a subclass must define, and what one part of the package tells another, which catches it.
_INTERNAL = {"NotImplementedError", "RuntimeError", "NoModeError"}
_INTERNAL_PATHS = ("linalg/", "objectives/")


@dataclass(frozen=True)
class Site:
    """A place that raises or warns.

    Attributes
    ----------
    path : str
        Of the file inside the package.
    first, last : int
        Lines of the statement.
    kind : str
        Name of the exception or warning.
    parts : tuple of str
        Literal parts of the message, in their order.
    template : str
        The message with dots for what is filled in.
    """

    path: str
    first: int
    last: int
    kind: str
    parts: tuple[str, ...]
    template: str


def sites() -> list[Site]:
    """All places of the package that have words of their own."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(ROOT))
        for node in ast.walk(tree):
            call = _message(node)
            if call is None:
                continue
            kind, message = call[0].split(".")[-1], call[1]
            parts, template = _words(message)
            if is_internal(name, kind):
                continue
            if any(len(part.strip()) > 3 for part in parts):
                found.append(Site(name, node.lineno, node.end_lineno, kind, parts, template))
    return sorted(found, key=lambda site: (site.path, site.first))


def is_internal(path: str, kind: str) -> bool:
    """Whether users never see it."""
    return kind in _INTERNAL or (kind == "LinAlgError" and path.startswith(_INTERNAL_PATHS))


def _message(node: ast.AST) -> tuple[str, ast.expr] | None:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        return ast.unparse(node.exc.func), node.exc.args[0]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn" and len(node.args) > 1:
        return ast.unparse(node.args[1]), node.args[0]
    return None


def _words(node: ast.expr) -> tuple[tuple[str, ...], str]:
    """Literal parts, and the whole with dots for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,), node.value
    if isinstance(node, ast.JoinedStr):
        parts, template = [], ""
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts.append(value.value)
                template += value.value
            else:
                template += "..."
        return tuple(parts), template
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _words(node.left), _words(node.right)
        return left[0] + right[0], left[1] + right[1]
    return (), "..."
