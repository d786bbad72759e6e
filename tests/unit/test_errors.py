"""Errors carry a reason of the closed list and everything their status details need."""

from __future__ import annotations

import inspect

import pytest

from text4seg import errors

REASONS = {
    "IMAGE_INVALID",
    "QUERY_INVALID",
    "LABEL_INVALID",
    "OPTION_INVALID",
    "IMAGE_NOT_FOUND",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "OVERLOADED",
    "MODEL_LOADING",
    "PEER_UNAVAILABLE",
    "SERVICE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "DESCRIPTOR_MALFORMED",
    "FEATURE_UNIMPLEMENTED",
    "CHECKPOINT_INVALID",
    "INTERNAL",
}
CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, errors.Text4SegError) and one.__module__ == errors.__name__
]


def test_every_reason_has_an_error_and_no_error_another_reason() -> None:
    assert {one.reason for one in CLASSES} == REASONS


def test_every_class_is_drawn_in_the_docstring() -> None:
    drawn = [
        line.replace("|--", "").replace("`--", "").split() for line in (errors.__doc__ or "").splitlines()
    ]
    for one in CLASSES:
        assert [one.__name__, one.reason] in [[word for word in line if word != "|"][:2] for line in drawn]


@pytest.mark.parametrize(
    ("error", "message", "details"),
    [
        (errors.ImageInvalidError("image", "is empty"), "image: is empty", {"field": "image"}),
        (errors.ImageNotFoundError("abc"), "'abc'", {"image_id": "abc"}),
        (errors.OverloadedError("queue full", 2.5), "queue full", {"retry_after_s": 2.5}),
        (errors.ModelLoadingError(), "loading", {"retry_after_s": 1.0}),
        (errors.PeerUnavailableError("refiner"), "refiner: ", {"peer": "refiner", "retry_after_s": 1.0}),
        (errors.DeadlineExceededError("refine"), "'refine'", {"stage": "refine"}),
        (errors.DescriptorMalformedError("bad", 3, 4), "row 3, column 4: bad", {"row": 3, "column": 4}),
        (
            errors.FeatureUnimplementedError("SegmentFrames"),
            "SegmentFrames is not",
            {"feature": "SegmentFrames"},
        ),
        (errors.CheckpointError("/m", "no config"), "/m: no config", {"path": "/m", "why": "no config"}),
    ],
)
def test_message_and_details(error: errors.Text4SegError, message: str, details: dict[str, object]) -> None:
    assert message in error.message
    assert str(error) == error.message
    assert {name: getattr(error, name) for name in details} == details


def test_input_errors_share_a_base_and_so_do_retryable_ones() -> None:
    for one in (
        errors.ImageInvalidError,
        errors.QueryInvalidError,
        errors.LabelInvalidError,
        errors.OptionInvalidError,
    ):
        assert issubclass(one, errors.InvalidInputError)
    for retryable in (errors.ModelLoadingError, errors.PeerUnavailableError):
        assert issubclass(retryable, errors.ServiceUnavailableError)
