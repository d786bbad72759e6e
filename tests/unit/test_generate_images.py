import numpy as np
import pytest
from PIL import Image

from services.generator.images import ImageMemory, PreparedImage, squash


def counting_memory(capacity):
    prepared = []

    def prepare(data):
        prepared.append(data)
        return PreparedImage(Image.new("RGB", (1, 1)), data)

    return ImageMemory(prepare, capacity), prepared


def test_same_content_is_prepared_once():
    memory, prepared = counting_memory(2)
    assert memory.get(b"a") is memory.get(bytes(bytearray(b"a")))
    assert memory.get(b"b").features == b"b"
    assert prepared == [b"a", b"b"]


def test_least_recently_used_image_is_forgotten():
    memory, prepared = counting_memory(2)
    for data in (b"a", b"b", b"a", b"c", b"a", b"b"):
        memory.get(data)
    assert prepared == [b"a", b"b", b"c", b"b"]


def test_no_capacity_keeps_nothing():
    memory, prepared = counting_memory(0)
    memory.get(b"a")
    memory.get(b"a")
    assert prepared == [b"a", b"a"]


def test_failure_is_not_remembered():
    def prepare(data):
        raise ValueError(data)

    memory = ImageMemory(prepare, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            memory.get(b"bad")


def test_squash_neither_pads_nor_crops():
    pixels = np.zeros((40, 90, 3), dtype=np.uint8)
    pixels[:, 45:] = 200
    squashed = np.asarray(squash(pixels, (16, 32), Image.Resampling.BICUBIC))
    assert squashed.shape == (16, 32, 3)
    assert (squashed[:, :13] < 10).all()
    assert (squashed[:, 19:] > 190).all()
    assert squash(pixels, None, Image.Resampling.BICUBIC).size == (90, 40)
