"""What a peer finds wrong with a request, in the words of the caller who knows nothing of that peer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from text4seg.errors import InvalidInputError


@contextmanager
def fields_renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Raise invalid input as a fault of the caller's own field.

    Args:
        names: the caller's path by the first name of the peer's path: ``turns`` stands for ``turns[0].text``
            too. A path that begins otherwise stays as it is.
    """
    try:
        yield
    except InvalidInputError as error:
        first = re.split(r"[.\[]", error.field, maxsplit=1)[0]
        raise type(error)(names.get(first, error.field), error.description) from error
