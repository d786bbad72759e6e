"""What the domain can say, as Hypothesis strategies, and the way it travels."""

import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from text4seg.descriptors import DecodeReport, LabelGrid, Repair, RepairKind
from text4seg.masks import Box
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    DescriptorResult,
    FinishReason,
    ImageContent,
    ImageId,
    ImageUri,
    LabelQuery,
    Limits,
    MaskFormat,
    OpenQuery,
    PhraseQuery,
    RefineMode,
    Region,
    SegmentAnswer,
    SegmentOptions,
    Timing,
    Turn,
    Versions,
    Warning_,
    WarningKind,
)

LIMITS = Limits()

UNKNOWN: Any = 99
"""A number that no enum has; generated types take names only."""


def encode_png(mask: NDArray[np.bool_]) -> bytes:
    """Stand in for a PNG encoder: the core has none."""
    return bytes(f"{mask.shape[0]} {mask.shape[1]} ", "ascii") + zlib.compress(mask.tobytes())


def decode_png(data: bytes) -> NDArray[np.bool_]:
    height, width, packed = data.split(b" ", 2)
    return np.frombuffer(zlib.decompress(packed), dtype=np.bool_).reshape(int(height), int(width))


def through(message: Any) -> Any:
    """Send a message over a wire."""
    return type(message).FromString(message.SerializeToString())


# Floats are those that float32 can hold, durations whole nanoseconds.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcdefghij-0123456789", max_size=12)
shares = st.floats(0, 1, width=32)
seconds = st.integers(0, 10**13).map(lambda nanoseconds: nanoseconds / 10**9)
counts = st.integers(0, 2**31 - 1)
seeds = st.integers(0, 2**63 - 1)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
labels = (
    st.text("abcdefghij ", min_size=1, max_size=8)
    .map(lambda text: f"l {text}".strip())
    .map(lambda text: " ".join(text.split()))
)
boxes = st.builds(Box, counts, counts, counts, counts)

images = st.one_of(
    st.builds(ImageContent, st.binary(min_size=1, max_size=30)),
    st.builds(ImageId, st.text("0123456789abcdef:-", min_size=1, max_size=80)),
    st.builds(ImageUri, st.text("htps:/.abc%?&=#~ü", min_size=1, max_size=80)),
)
queries = st.one_of(
    st.builds(PhraseQuery, st.lists(labels, min_size=1, max_size=32).map(tuple)),
    st.builds(LabelQuery, st.lists(labels, min_size=1, max_size=32, unique=True).map(tuple)),
    st.just(OpenQuery()),
)
options = st.builds(
    SegmentOptions,
    refine=st.sampled_from(RefineMode),
    mask_format=st.sampled_from(MaskFormat),
    confidence_map=st.booleans(),
    min_score=shares,
    split_instances=st.booleans(),
    cache=st.sampled_from(CacheMode),
    seed=seeds,
    strict=st.booleans(),
    refiner_model=names,
)
user_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(
    lambda text: f"{text}?\n\t"
)
conversations = st.lists(user_texts, min_size=1, max_size=9).map(
    lambda spoken: tuple(
        Turn("assistant" if index % 2 else "user", text)
        for index, text in enumerate(spoken if len(spoken) % 2 else spoken[:-1])
    )
)
max_tokens = st.none() | st.integers(1, 2**31 - 1)


@st.composite
def label_grids(draw: st.DrawFn) -> LabelGrid:
    table = ("others", *draw(st.lists(labels, max_size=4, unique=True)))
    cells = draw(hnp.arrays(np.int16, draw(sizes), elements=st.integers(0, len(table) - 1)))
    return LabelGrid(table, cells)


descriptors = st.builds(
    DescriptorResult,
    phrase=texts,
    text=texts,
    grid=label_grids(),
    report=st.builds(
        DecodeReport,
        repairs=st.lists(
            st.builds(Repair, st.sampled_from(RepairKind), counts, counts, texts), max_size=3
        ).map(tuple),
        unknown_labels=st.lists(texts, max_size=3).map(tuple),
        truncated=st.booleans(),
    ),
    finish_reason=st.sampled_from(FinishReason),
    no_target_score=shares,
)
timings = st.builds(
    Timing,
    total_s=seconds,
    image_s=st.none() | seconds,
    cache_s=st.none() | seconds,
    generate_s=st.none() | seconds,
    decode_s=st.none() | seconds,
    refine_s=st.none() | seconds,
)
versions = st.builds(Versions, texts, texts, texts, texts, texts)
warning_lists = st.lists(st.builds(Warning_, st.sampled_from(WarningKind), texts), max_size=3).map(tuple)


def confidences(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.float32]]:
    """Probabilities in the steps of 1/255 that the wire has."""
    return hnp.arrays(np.uint8, shape).map(lambda cells: cells.astype(np.float32) / np.float32(255))


@st.composite
def regions(draw: st.DrawFn, size: tuple[int, int], mask_format: MaskFormat) -> Region:
    """A region as the client sees it: with the mask that the format carries."""
    full = mask_format not in (MaskFormat.NONE, MaskFormat.GRID)
    return Region(
        label=draw(texts),
        mask=draw(hnp.arrays(np.bool_, size)) if full else None,
        grid_mask=draw(hnp.arrays(np.bool_, draw(sizes))) if mask_format is MaskFormat.GRID else None,
        box=draw(boxes),
        score=draw(shares),
        area=draw(seeds),
        refined=draw(st.booleans()),
        split=draw(st.booleans()),
        confidence=draw(st.none() | sizes.flatmap(confidences)),
        refine_score=draw(st.none() | shares),
    )


@st.composite
def answers(draw: st.DrawFn, mask_format: MaskFormat) -> SegmentAnswer:
    size = draw(sizes)
    return SegmentAnswer(
        regions=tuple(draw(st.lists(regions(size, mask_format), max_size=3))),
        descriptors=tuple(draw(st.lists(descriptors, max_size=2))),
        image_size=size,
        no_target_score=draw(shares),
        timing=draw(timings),
        cache=draw(st.sampled_from(CacheOutcome)),
        versions=draw(versions),
        warnings=draw(warning_lists),
    )


formats = st.sampled_from(MaskFormat)
answers_by_format = formats.flatmap(lambda form: st.tuples(st.just(form), answers(form)))
