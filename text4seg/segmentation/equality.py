"""Equality of values that hold arrays: the one that dataclasses generate fails on them."""

from dataclasses import fields
from typing import Any

import numpy as np


def equal_fields(left: Any, right: Any) -> bool:
    """Compare two dataclass instances of one class field by field, arrays by content."""
    if type(left) is not type(right):
        return False
    return all(_equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))


def _equal(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and bool(np.array_equal(left, right))  # type: ignore[arg-type]
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left is right or bool(left == right)
