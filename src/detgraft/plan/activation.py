"""Checks a YAML's ``activation:`` entry without evaluating it.

Stock Ultralytics passes the text to ``eval``. Here only a call of a ``torch.nn`` class with literal arguments gets
that far, so that no model file can run code.
"""

from __future__ import annotations

import ast

from detgraft.errors import PlanError, nearest
from detgraft.plan.document import Document

# The activation classes of torch.nn, listed so that this room needs no torch; a test compares them with torch itself.
_NAMES = (
    "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish PReLU ReLU ReLU6 "
    "RReLU SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold "
    "Identity"
)
ACTIVATIONS = frozenset(_NAMES.split())


def check_activation(document: Document) -> str | None:
    """Return the activation entry when it is safe and known, None when there is none.

    Args:
        document: The model YAML.

    Raises:
        PlanError: Anything but ``nn.NAME(literals)`` or ``torch.nn.NAME(literals)`` with a torch.nn activation.
    """
    text = document.mapping.get("activation")
    if not text:
        return None
    where = document.at("activation")
    expected = "'activation:' must be a torch.nn activation such as nn.SiLU() or torch.nn.LeakyReLU(0.1)"
    if not isinstance(text, str) or len(text) > 200:
        raise PlanError(f"{expected}, found {text!r:.80}", where)
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PlanError(f"{expected}, found {text!r:.80}", where) from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        raise PlanError(f"{expected}, found {text!r:.80}", where)
    if ast.unparse(call.func.value) not in ("nn", "torch.nn"):
        raise PlanError(f"{expected}, found {text!r:.80}", where)
    if call.func.attr not in ACTIVATIONS:
        raise PlanError(f"{expected}, found {text!r:.80}.{nearest(call.func.attr, ACTIVATIONS)}", where)
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(keyword.arg is None for keyword in call.keywords) or not all(_is_literal(value) for value in values):
        raise PlanError(f"{expected} with literal arguments, found {text!r:.80}", where)
    return text.strip()


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None)))
