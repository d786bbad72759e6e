"""Python client of Text4Seg Serving: :class:`Client` blocks, :class:`AsyncClient` is for asyncio.

    from text4seg_client import Client

    with Client("127.0.0.1:50051") as client:
        answer = client.segment("cat.jpg", "the cat")
        for region in answer.regions:
            print(region.label, region.score, region.box, region.mask.shape)

Questions and answers are the frozen dataclasses of :mod:`text4seg.segmentation`, errors those of
:mod:`text4seg.errors`; the ones that callers need most are re-exported here.
"""

from text4seg.errors import Text4SegError
from text4seg.segmentation import (
    CacheMode,
    ImageId,
    ImageUri,
    LabelQuery,
    MaskFormat,
    OpenQuery,
    PhraseQuery,
    RefineMode,
    SegmentOptions,
    Turn,
)
from text4seg_client.aio import AsyncClient
from text4seg_client.channel import DEFAULT_ADDRESS, Connection, Tls
from text4seg_client.client import Client
from text4seg_client.export import to_coco, to_supervision
from text4seg_client.images import ImageInput
from text4seg_client.overlay import draw_overlay
from text4seg_client.retry import RetryPolicy

__all__ = [
    "DEFAULT_ADDRESS",
    "AsyncClient",
    "CacheMode",
    "Client",
    "Connection",
    "ImageId",
    "ImageInput",
    "ImageUri",
    "LabelQuery",
    "MaskFormat",
    "OpenQuery",
    "PhraseQuery",
    "RefineMode",
    "RetryPolicy",
    "SegmentOptions",
    "Text4SegError",
    "Tls",
    "Turn",
    "draw_overlay",
    "to_coco",
    "to_supervision",
]
