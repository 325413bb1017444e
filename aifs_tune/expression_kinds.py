"""Kinds of value in an expression: operands that an operator can never take are refused before any trial."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Literal, TypeAlias

from aifs_tune.expressions import ARITHMETIC, ORDER, evaluator, listed, shown
from aifs_tune.scalars import Scalar, problem

Kind: TypeAlias = Literal["a number", "text", "true or false"]
Kinds: TypeAlias = frozenset[Kind]
"""What a value may turn out to be; a choice among 1 and ``"auto"`` is of two kinds."""

_NUMBER: Kinds = frozenset({"a number"})
_TRUTH: Kinds = frozenset({"true or false"})
_ANY: Kinds = frozenset({"a number", "text", "true or false"})


def kind_of(value: Scalar) -> Kind:
    """The kind of one value; true and false are no numbers."""
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a number"


def check_kinds(tree: ast.expr, of: Mapping[str, Kinds]) -> None:
    """Refuse operands that cannot be of a kind that their operator takes, where ``of`` tells the parameters' kinds.

    An operand that may be of several kinds passes if one of them fits: ``size == "auto" or size < 3``.

    Raises
    ------
    PydanticCustomError
        Naming the operand, its kind and what is allowed.
    """
    _expect(tree, of, _TRUTH, "")


def _expect(node: ast.expr, of: Mapping[str, Kinds], allowed: Kinds, operator_text: str) -> None:
    _check_kind(node, _kinds(node, of), allowed, operator_text)


def _check_kind(node: ast.expr, kinds: Kinds, allowed: Kinds, operator_text: str) -> None:
    if not kinds & allowed:
        words = "true or false, such as a comparison" if allowed == _TRUTH else "a number"
        raise problem("", f"{shown(node)} is {_either(kinds)}{operator_text and f', beside {operator_text}'}", words)


def _kinds(node: ast.expr, of: Mapping[str, Kinds]) -> Kinds:
    match node:
        case ast.Name():
            return of.get(node.id, _ANY)
        case ast.Constant():
            return frozenset({kind_of(evaluator(node)({}))})
        case ast.BinOp():
            for each in (node.left, node.right):
                _expect(each, of, _NUMBER | _TRUTH, ARITHMETIC[type(node.op)][0])
            return _NUMBER
        case ast.UnaryOp(op=ast.USub()):
            _expect(node.operand, of, _NUMBER | _TRUTH, "-")
            return _NUMBER
        case ast.UnaryOp():
            _expect(node.operand, of, _TRUTH, "not")
        case ast.BoolOp():
            for each in node.values:
                _expect(each, of, _TRUTH, "and" if isinstance(node.op, ast.And) else "or")
        case ast.Call(func=ast.Name(id=name)):
            for each in node.args:
                _expect(each, of, _NUMBER | _TRUTH, f"{name}()")
            return _NUMBER
        case ast.Compare():
            _check_compared(node, of)
    return _TRUTH


def _check_compared(node: ast.Compare, of: Mapping[str, Kinds]) -> None:
    left, before = node.left, _kinds(node.left, of)
    for op, right in zip(node.ops, node.comparators, strict=True):
        each_of = [(each, _kinds(each, of)) for each in listed(right)]
        for each, kinds in each_of:
            if type(op) in ORDER:
                _check_kind(left, before, _NUMBER, ORDER[type(op)][0])
                _check_kind(each, kinds, _NUMBER, ORDER[type(op)][0])
            elif not before & kinds:
                text = f"{shown(left)} is {_either(before)} and {shown(each)} {_either(kinds)}: never equal"
                raise problem("", text, "two of one kind")
        left, before = each_of[-1]


def _either(kinds: Kinds) -> str:
    return " or ".join(sorted(kinds))
