"""Constraints from text: Python's grammar, read by :mod:`ast`, for a short list of its nodes.

Only known tokens reach the parser and only known nodes leave it. Names stand behind an underscore while Python parses,
so that ``lambda`` is a parameter like any other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from aifs_tune.expression_kinds import check_kinds
from aifs_tune.expressions import ARITHMETIC, FUNCTIONS, check_values, is_literal, shown
from aifs_tune.scalars import brief, did_you_mean, problem, scalar

LONGEST = 500
DEEPEST = 64
"""Operations inside one another; evaluation recurses no deeper."""

_TOKEN = re.compile(
    r"""
    (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+) (?:[eE][-+]?[0-9]+)? (?![\w.]) )
    | (?P<text> "(?:[^"\\]|\\["'\\])*" | '(?:[^'\\]|\\["'\\])*' )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* (?![\w"']) )
    | (?P<sign> \*\* | [<>=!]= | [-+*/%<>(),\[\]] )
    | (?P<space> \x20+ )
    """,
    re.VERBOSE,
)
_WORDS = {word: word for word in ("and", "or", "not", "in", "True", "False")} | {"true": "True", "false": "False"}
_HINTS = {"&": "and", "|": "or", "!": "not", "=": "==", "^": "**"}

_OF_SEVERAL = ("min", "max")
_LANGUAGE = (
    "parameters, numbers, text in quotes, true, false, + - * / ** %, comparisons, in [a, list], and, or, not, "
    f"parentheses, {', '.join(FUNCTIONS)}"
)


def parse(text: str) -> ast.expr:
    """The tree of a text of at most ``LONGEST`` characters; :mod:`aifs_tune.expressions` knows all that it holds.

    Raises
    ------
    PydanticCustomError
        If ``text`` is not in the language, or wrong whatever its parameters are; see :func:`aifs_tune.scalars.problem`.
    """
    source = " ".join(_tokens(text))
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = str(getattr(error, "msg", "")).split(".")[0] or "too complex"
        raise problem("", f"{brief(text)} is not an expression ({reason})", _LANGUAGE) from None
    if _depth(tree) > DEEPEST:
        raise problem("", f"{brief(text)} is nested too deep", f"at most {DEEPEST} operations inside one another")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = node.id.removeprefix("_")
    _check(tree)
    check_kinds(tree, {})
    check_values(tree)
    return tree


def _tokens(text: str) -> Iterator[str]:
    """The text's words and signs as Python shall see them."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            hint = f", did you mean {_HINTS[text[at]]}?" if text[at] in _HINTS else ""
            raise problem("", f"cannot be read from {brief(text[at : at + 20])} on{hint}", _LANGUAGE)
        if found.lastgroup == "name":
            yield _WORDS.get(found[0], f"_{found[0]}")
        elif found.lastgroup != "space":
            yield found[0]
        at = found.end()


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _check(node: ast.expr) -> None:
    """Refuse every node that is not in the language."""
    match node:
        case ast.Constant():
            scalar(node.value)
        case ast.Name():
            pass
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            _check(node.left)
            _check(node.right)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            _check(node.operand)
        case ast.BoolOp():
            for each in node.values:
                _check(each)
        case ast.Compare():
            _check_compare(node)
        case ast.Call(func=ast.Name(id=name), args=args):
            if name not in FUNCTIONS:
                known = list(FUNCTIONS)
                raise problem("", f"no function {brief(name)}{did_you_mean(name, known)}", ", ".join(known))
            for each in args:
                _check(each)
            if len(args) < 2 if name in _OF_SEVERAL else len(args) != 1:
                text = f"{shown(node)}: {len(args)} value{'' if len(args) == 1 else 's'} for {name}"
                raise problem("", text, "2 values or more" if name in _OF_SEVERAL else "1 value")
        case _:
            raise problem("", f"{shown(node)} is not part of the language", _LANGUAGE)


def _check_compare(node: ast.Compare) -> None:
    _check(node.left)
    for op, right in zip(node.ops, node.comparators, strict=True):
        if not isinstance(op, ast.In | ast.NotIn):
            _check(right)
        elif len(node.ops) > 1:
            raise problem("", f"in inside a chain, {shown(node)}", "in by itself, joined by and")
        elif not isinstance(right, ast.List | ast.Tuple) or not right.elts or not all(map(is_literal, right.elts)):
            raise problem("", f"{shown(right)} after in", "a list of numbers, text in quotes, true and false")
        else:
            for each in right.elts:
                _check(each)
