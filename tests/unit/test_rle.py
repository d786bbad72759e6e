import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools import mask as coco

from text4seg.errors import InvalidInputError
from text4seg.masks import Rle, decode_rle, encode_rle

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def coco_counts(mask: NDArray[np.bool_]) -> str:
    counts: bytes = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts.decode("ascii")


@given(MASKS)
def test_the_counts_are_those_of_pycocotools(mask):
    rle = encode_rle(mask)
    assert rle.size == mask.shape
    assert rle.counts == coco_counts(mask)


@given(MASKS)
def test_what_pycocotools_wrote_is_read_back(mask):
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    decoded = decode_rle(Rle.from_coco(theirs))
    np.testing.assert_array_equal(decoded, mask)
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(coco.decode(encode_rle(mask).to_coco()), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70000), (70000, 1), (1500, 2000)])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.9999, 1.0])
def test_large_and_thin_masks_agree_with_pycocotools(shape, share):
    mask = np.random.default_rng(7).random(shape) < share
    rle = encode_rle(mask)
    assert rle.counts == coco_counts(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    # The bound on the length of untrusted text never refuses what an encoder writes.
    assert len(rle.counts) <= 1.125 * mask.size + 16


def test_an_rle_survives_json():
    rle = encode_rle(np.eye(5, dtype=np.bool_))
    assert Rle.from_coco(json.loads(json.dumps(rle.to_coco()))) == rle


@given(MASKS)
def test_plain_run_lengths_of_coco_crowds_are_read(mask):
    flat = mask.ravel(order="F")
    runs, value, length = [], False, 0
    for pixel in flat.tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    height, width = mask.shape
    rle = Rle.from_coco({"size": [height, width], "counts": runs})
    assert rle == encode_rle(mask)
    assert (
        rle.counts.encode()
        == coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    )


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ("", "cannot encode"),
        ("d", "middle of a number"),
        ("4 ", "alphabet"),
        ("4p", "alphabet"),
        ("4é", "alphabet"),
        ("3", "add up to 3"),
        ("5", "longer than the mask"),
        ("N6", "negative"),
        ("112N4", "negative"),
        ("0" * 25, "cannot encode"),
        ("oooooooo0", "more than 32 bits"),
        ("ooooooO", "longer"),
    ],
)
def test_malformed_counts_are_refused_with_the_reason(counts, why):
    with pytest.raises(InvalidInputError, match=why) as caught:
        decode_rle(Rle((2, 2), counts))
    assert caught.value.field == "counts"


ANY_TEXT = st.text(st.characters(min_codepoint=46, max_codepoint=113), max_size=12)


@given(ANY_TEXT, st.integers(1, 4), st.integers(1, 4))
@example("202", 2, 2)
@example("013", 2, 2)
def test_any_text_is_refused_or_read_as_pycocotools_reads_it(counts, height, width):
    try:
        mask = decode_rle(Rle((height, width), counts))
    except InvalidInputError:
        return
    np.testing.assert_array_equal(coco.decode({"size": [height, width], "counts": counts}), mask)


@pytest.mark.parametrize("size", [(0, 4), (-2, -2), (2, 2.0), (True, 4), ("2", 2), (1 << 20, 1 << 20)])
def test_a_bad_size_is_refused_before_anything_is_allocated(size):
    with pytest.raises(InvalidInputError) as caught:
        decode_rle(Rle(size, "4"))
    assert caught.value.field == "size"


def test_the_callers_own_limit_holds():
    rle = encode_rle(np.ones((10, 10), dtype=np.bool_))
    assert decode_rle(rle, max_pixels=100).all()
    with pytest.raises(InvalidInputError, match="99 pixels"):
        decode_rle(rle, max_pixels=99)


@pytest.mark.parametrize(
    "segmentation",
    [
        {},
        {"size": [2, 2]},
        {"size": "22", "counts": "4"},
        {"size": [2, 2, 1], "counts": "4"},
        {"size": [2, 2], "counts": 4},
        {"size": [2, 2], "counts": []},
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [-1, 5]},
        {"size": [2, 2], "counts": ["a"]},
        {"size": [2, 2], "counts": [1 << 80]},
        {"size": [2, 2], "counts": [1.5, 2.5]},
        {"size": [2, 2], "counts": [[4]]},
        {"size": [2, 2], "counts": [[1], [1, 2]]},
    ],
)
def test_a_malformed_coco_object_is_refused(segmentation):
    with pytest.raises(InvalidInputError):
        Rle.from_coco(segmentation)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_mask_without_pixels_cannot_be_encoded(shape):
    with pytest.raises(ValueError, match="at least one pixel"):
        encode_rle(np.zeros(shape, dtype=np.bool_))
