"""Equality and repr of values that hold arrays: what dataclasses generate fails, or fills the screen."""

from dataclasses import fields
from typing import Any

import numpy as np


def equal_fields(left: Any, right: Any) -> bool:
    """Compare two dataclass instances of one class field by field, arrays by content."""
    if type(left) is not type(right):
        return False
    return all(_equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))


def repr_fields(value: Any) -> str:
    """Write a dataclass instance as its constructor call, arrays by their extent: ``mask=bool[300, 451]``."""
    texts = (f"{field.name}={_repr(getattr(value, field.name))}" for field in fields(value))
    return f"{type(value).__name__}({', '.join(texts)})"


def _repr(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, bytes):
        return f"bytes[{len(value)}]"
    if isinstance(value, tuple) and any(isinstance(item, np.ndarray) for item in value):
        return f"({', '.join(map(_repr, value))})"
    return repr(value)


def _equal(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and bool(np.array_equal(left, right))  # type: ignore[arg-type]
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left is right or bool(left == right)
