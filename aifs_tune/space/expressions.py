"""Expressions over parameters: parser, type check and evaluation of a small, safe language.

An expression is evaluated node by node in floating-point numbers and is never compiled. The parser refuses every node
that the evaluation does not support.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeAlias

from aifs_tune._util.scalars import Scalar, brief, coded, did_you_mean, is_same, number, problem, scalar
from aifs_tune.space.names import is_name

Evaluator: TypeAlias = Callable[[Mapping[str, object]], Scalar]

CLOSE = 1e-12
"""Relative tolerance of equality, so that 0.1 + 0.2 equals the 0.3 of a grid."""

ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", math.pow),  # unlike **, never complex and never an integer of a million digits
}
ORDER: dict[type[ast.cmpop], tuple[str, Callable[[float, float], bool], bool]] = {
    ast.Lt: ("<", operator.lt, False),
    ast.LtE: ("<=", operator.lt, True),
    ast.Gt: (">", operator.gt, False),
    ast.GtE: (">=", operator.gt, True),
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sqrt": math.sqrt,
    "exp": math.exp,
}


class _NoValueError(ArithmeticError):
    """An operation that has no finite value or has an operand of the wrong kind."""


def names_in(tree: ast.expr) -> tuple[str, ...]:
    """Return the parameters in the expression, each once, from left to right."""
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    mentions = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions]
    return tuple(dict.fromkeys(node.id for node in sorted(mentions, key=lambda node: node.col_offset)))


def holds(evaluate: Evaluator, params: Mapping[str, object]) -> bool:
    """Whether an expression is true; it is false if an operation that is evaluated has no finite value.

    ``and``, ``or`` and chained comparisons stop at the first operand that decides, as in Python.
    """
    try:
        return evaluate(params) is True
    except (ArithmeticError, ValueError):  # math raises ValueError for log(-1) and (-1) ** 0.5
        return False


def evaluator(node: ast.expr) -> Evaluator:
    """Build a function of the parameters that returns the value of a node.

    The function raises ``ArithmeticError`` or ``ValueError`` if there is no finite value, and ``KeyError`` if a
    parameter is missing.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return lambda params: value
        case ast.Name(id=name):
            return lambda params: _scalar(params[name])
        case ast.UnaryOp(op=ast.Not()):
            truth = _truth(node.operand)
            return lambda params: not truth(params)
        case ast.UnaryOp():
            real = _real(node.operand)
            return lambda params: -real(params)
        case ast.BinOp():
            (_, operation), left, right = ARITHMETIC[type(node.op)], _real(node.left), _real(node.right)
            return lambda params: _finite(operation(left(params), right(params)))
        case ast.Call(func=ast.Name(id=name)):
            function, reals = FUNCTIONS[name], [_real(each) for each in node.args]
            return lambda params: _finite(function(*[real(params) for real in reals]))
        case ast.BoolOp():
            decides, operands = all if isinstance(node.op, ast.And) else any, [_truth(each) for each in node.values]
            return lambda params: decides(truth(params) for truth in operands)
        case ast.Compare():
            return _chain(node)
    raise TypeError(f"{type(node).__name__} is not supported")


def check_values(tree: ast.expr) -> None:
    """Refuse an operation on literals that has no finite value, such as ``1 / 0``.

    Raises
    ------
    PydanticCustomError
        If there is one; names the innermost.
    """
    for node in reversed(list(ast.walk(tree))):
        if isinstance(node, ast.BinOp | ast.Call) and not names_in(node):
            try:
                evaluator(node)({})
            except (ArithmeticError, ValueError):
                raise problem("", f"{shown(node)} has no finite value", "numbers up to 1e308") from None


def equalities(tree: ast.expr) -> Iterator[tuple[str, Scalar]]:
    """Iterate over parameters compared with a literal by ``==``, ``!=`` or ``in``, with that literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for op, left, right in zip(node.ops, operands, node.comparators, strict=False):
                for one, other in ((left, right), (right, left)):
                    if isinstance(one, ast.Name) and not isinstance(op, tuple(ORDER)):
                        yield from ((one.id, evaluator(each)({})) for each in listed(other) if is_literal(each))


def is_literal(node: ast.expr) -> bool:
    """Whether a node is a literal: a number, also a negative one, text, true or false."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and not isinstance(node.value, bool | str)
    return isinstance(node, ast.Constant)


def listed(node: ast.expr) -> list[ast.expr]:
    """Return the nodes of a list after ``in``, or the node itself."""
    return node.elts if isinstance(node, ast.List | ast.Tuple) else [node]


def shown(node: ast.expr) -> str:
    """Return a node as text, shortened to 80 characters."""
    text = ast.unparse(node)
    return text if len(text) <= 80 else text[:77] + "..."


def _chain(node: ast.Compare) -> Evaluator:
    """Evaluate ``a < b < c`` as ``a < b and b < c``, with ``b`` evaluated once."""
    first = evaluator(node.left)
    links = [
        (op, [evaluator(each) for each in listed(right)]) for op, right in zip(node.ops, node.comparators, strict=True)
    ]

    def is_true(params: Mapping[str, object]) -> bool:
        before = first(params)
        for op, each_of in links:
            values = [each(params) for each in each_of]
            if not _is_true_of(op, before, values):
                return False
            before = values[-1]
        return True

    return is_true


def _is_true_of(op: ast.cmpop, one: Scalar, others: list[Scalar]) -> bool:
    if type(op) not in ORDER:
        is_found = any(_is_equal(one, other) for other in others)
        return is_found if isinstance(op, ast.Eq | ast.In) else not is_found
    _, is_beyond, or_equal = ORDER[type(op)]
    [other] = others
    if isinstance(one, bool | str) or isinstance(other, bool | str):
        raise _NoValueError
    return or_equal if _is_equal(one, other) else is_beyond(float(one), float(other))


def _is_equal(one: Scalar, other: Scalar) -> bool:
    if not isinstance(one, bool | str) and not isinstance(other, bool | str):
        return math.isclose(float(one), float(other), rel_tol=CLOSE)
    return is_same(one, other)


def _truth(node: ast.expr) -> Callable[[Mapping[str, object]], bool]:
    evaluate = evaluator(node)

    def truth(params: Mapping[str, object]) -> bool:
        value = evaluate(params)
        if not isinstance(value, bool):
            raise _NoValueError
        return value

    return truth


def _real(node: ast.expr) -> Callable[[Mapping[str, object]], float]:
    """Evaluate a number as a float; true counts as 1 and false as 0."""
    evaluate = evaluator(node)

    def real(params: Mapping[str, object]) -> float:
        value = evaluate(params)
        if isinstance(value, str):
            raise _NoValueError
        return float(value)

    return real


def _scalar(given: object) -> Scalar:
    given = coded(given)
    if isinstance(given, bool | str):
        return given
    found = number(given)
    if found is None:
        raise _NoValueError
    return found


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _NoValueError
    return value


Kind: TypeAlias = Literal["a number", "text", "true or false"]
Kinds: TypeAlias = frozenset[Kind]
"""Kinds that a value may have; a choice of 1 and ``"auto"`` has two."""

_NUMBER: Kinds = frozenset({"a number"})
_TRUTH: Kinds = frozenset({"true or false"})
_ANY: Kinds = frozenset({"a number", "text", "true or false"})


def kind_of(value: Scalar) -> Kind:
    """Return the kind of a value; true and false are not numbers."""
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a number"


def check_kinds(tree: ast.expr, of: Mapping[str, Kinds], kind: Kind = "true or false") -> None:
    """Refuse operands of a kind that their operator does not support; ``of`` has the kinds of the parameters.

    An operand of several kinds passes if one of them fits: ``size == "auto" or size < 3``.

    Raises
    ------
    PydanticCustomError
        If there is one; names the operand, its kind and what is allowed.
    """
    _expect(tree, of, frozenset({kind}), "")


def _expect(node: ast.expr, of: Mapping[str, Kinds], allowed: Kinds, operator_text: str) -> None:
    _check_kind(node, _kinds(node, of), allowed, operator_text)


def _check_kind(node: ast.expr, kinds: Kinds, allowed: Kinds, operator_text: str) -> None:
    if not kinds & allowed:
        words = "true or false, such as a comparison" if allowed == _TRUTH else "a number"
        where = operator_text and f", as an operand of {operator_text}"
        raise problem("", f"{shown(node)} is {_either(kinds)}{where}", words)


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
                text = f"{shown(left)} is {_either(before)} and {shown(each)} is {_either(kinds)}, never equal"
                raise problem("", text, "two values of the same kind")
        left, before = each_of[-1]


def _either(kinds: Kinds) -> str:
    return " or ".join(sorted(kinds))


MAX_LENGTH = 500
MAX_DEPTH = 64
"""Largest depth of nested operations, which limits the recursion of the evaluation."""

_TOKEN = re.compile(
    r"""
    (?P<number> (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+) (?:[eE][-+]?[0-9]+)? (?![\w.]) )
    | (?P<text> "(?:[^"\\]|\\["'\\])*" | '(?:[^'\\]|\\["'\\])*' )
    | (?P<name> (?:[A-Za-z_]|[^\x00-\x7f]) (?:[\w.]|[^\x00-\x7f])* (?!["']) )
    | (?P<sign> \*\* | [<>=!]= | [-+*/%<>(),\[\]] )
    | (?P<space> \x20+ )
    """,
    re.VERBOSE,
)
_WORDS = {word: word for word in ("and", "or", "not", "in", "True", "False")} | {"true": "True", "false": "False"}
_HINTS = {"&": "and", "|": "or", "!": "not", "=": "==", "^": "**"}

_PARSER = threading.Lock()
"""Python's parser fails with SystemError in rare cases if several threads use it for nested expressions."""

_OF_SEVERAL = ("min", "max")
_LANGUAGE = (
    "parameters, numbers, text in quotes, true, false, + - * / ** %, comparisons, in [a, list], and, or, not, "
    f"parentheses, {', '.join(FUNCTIONS)}"
)


def parse(text: str, kind: Kind = "true or false") -> ast.expr:
    """Parse a text of at most ``MAX_LENGTH`` characters to a tree that holds only supported nodes, and has a value of
    this kind.

    Raises
    ------
    PydanticCustomError
        If ``text`` is not in the language, or is wrong for all values of its parameters; see
        :func:`aifs_tune._util.scalars.problem`.
    """
    names: list[str] = []
    source = " ".join(_tokens(text, names))
    try:
        with _PARSER:
            tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = str(getattr(error, "msg", "")).split(".")[0] or "too complex"
        raise problem("", f"{brief(text)} is not an expression ({reason})", _LANGUAGE) from None
    if _depth(tree) > MAX_DEPTH:
        raise problem("", f"{brief(text)} is nested too deeply", f"at most {MAX_DEPTH} nested operations")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names[int(node.id.removeprefix("_"))]
    _check(tree)
    check_kinds(tree, {}, kind)
    check_values(tree)
    return tree


def _tokens(text: str, names: list[str]) -> Iterator[str]:
    """Split the text into words and signs, as Python source in which ``_7`` is the name that is put into ``names[7]``.

    Python would read a name with dots as something else, and some letters as others.
    """
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or (found.lastgroup == "name" and not is_name(found[0])):
            hint = f", did you mean {_HINTS[text[at]]}?" if text[at] in _HINTS else ""
            raise problem("", f"syntax error at {brief(text[at : at + 20])}{hint}", _LANGUAGE)
        if found.lastgroup == "name":
            if found[0] not in _WORDS:
                names.append(found[0])
            yield _WORDS.get(found[0], f"_{len(names) - 1}")
        elif found.lastgroup != "space":
            yield found[0]
        at = found.end()


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _check(node: ast.expr) -> None:
    """Refuse every node that the language does not have."""
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
                text = f"{shown(node)} has {len(args)} argument{'' if len(args) == 1 else 's'}"
                raise problem("", text, "2 or more arguments" if name in _OF_SEVERAL else "1 argument")
        case _:
            raise problem("", f"{shown(node)} is not supported", _LANGUAGE)


def _check_compare(node: ast.Compare) -> None:
    _check(node.left)
    for op, right in zip(node.ops, node.comparators, strict=True):
        if not isinstance(op, ast.In | ast.NotIn):
            _check(right)
        elif len(node.ops) > 1:
            raise problem("", f"{shown(node)} chains in with another comparison", "two comparisons joined by and")
        elif not isinstance(right, ast.List | ast.Tuple) or not right.elts or not all(map(is_literal, right.elts)):
            text = f"{shown(right)} after in is not a list of values"
            raise problem("", text, "a list of numbers, text in quotes, true and false")
        else:
            for each in right.elts:
                _check(each)
