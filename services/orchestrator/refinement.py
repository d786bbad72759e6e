"""Sharpening regions with the refiner, and what to do when it fails or disagrees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.orchestrator.faults import fields_renamed
from services.orchestrator.ports import Budget, OpenImage, Refiner
from services.orchestrator.stopwatch import Stopwatch
from text4seg.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    OptionInvalidError,
    PeerUnavailableError,
    Text4SegError,
)
from text4seg.masks import box_of, mask_area
from text4seg.segmentation import (
    RefineAnswer,
    RefinedMask,
    RefineMode,
    RefineRequest,
    RefinerInfo,
    Region,
    SegmentOptions,
    Warning_,
    WarningKind,
)

_LOG = logging.getLogger(__name__)

_MODEL_FIELD = "options.refiner_model"

AUTO_SHARE = 0.8
"""Share of the time left that the refiner gets when a coarse answer will do: the rest delivers that one."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Regions after the refiner: its masks where it succeeded, the coarse ones elsewhere."""

    regions: tuple[Region, ...]
    warnings: tuple[Warning_, ...] = ()
    model: str = ""
    """Name and version of the model that was used; empty when none was."""


@dataclass(frozen=True, slots=True)
class _Share:
    """A part of a budget."""

    whole: Budget
    share: float

    def check(self, stage: str) -> None:
        self.whole.check(stage)

    def timeout_for_peer(self, stage: str) -> float | None:
        remaining = self.whole.timeout_for_peer(stage)
        return None if remaining is None else remaining * self.share


class Refinement:
    """Refines the regions of one answer with a single call of the refiner."""

    def __init__(self, refiner: Refiner | None, min_agreement: float) -> None:
        """Choose the refiner.

        Args:
            refiner: None when the server has none.
            min_agreement: intersection over union with the coarse mask below which AUTO drops a refined mask.
        """
        self._refiner = refiner
        self.min_agreement = min_agreement

    async def info(self, options: SegmentOptions) -> RefinerInfo | None:
        """Describe the refiner; None when it takes no part, or was never reached and mode AUTO allows that.

        Raises:
            PeerUnavailableError: refinement is required, and there is no refiner or it was never reached.
            OptionInvalidError: the refiner has no model of the name asked for.
        """
        if options.refine is RefineMode.NONE:
            return None
        try:
            info = await self._expected().info()
        except Text4SegError:
            if options.refine is RefineMode.REQUIRED:
                raise
            return None
        if options.refiner_model and options.refiner_model not in info.models:
            known = ", ".join(info.models)
            raise OptionInvalidError(_MODEL_FIELD, f"{options.refiner_model!r} is not one of: {known}")
        return info

    async def refine(
        self,
        image: OpenImage,
        regions: Sequence[Region],
        options: SegmentOptions,
        budget: Budget,
        watch: Stopwatch,
        *,
        exclusive: bool,
    ) -> Refined:
        """Refine coarse regions.

        Args:
            image: the image.
            regions: with both masks.
            options: how to answer.
            budget: the time left.
            watch: times the stage "refine", when it runs.
            exclusive: whether a pixel belongs to one region at most. Where refined masks overlap, the region
                with the higher score gets it, then the one with the higher refiner's score, then the first.

        Raises:
            Text4SegError: the refiner failed and refinement is required, or the request is at fault.
        """
        if options.refine is RefineMode.NONE or not regions:
            return Refined(tuple(regions))
        with watch.stage("refine"):
            return await self._refine(image, regions, options, budget, exclusive)

    async def _refine(
        self,
        image: OpenImage,
        regions: Sequence[Region],
        options: SegmentOptions,
        budget: Budget,
        exclusive: bool,
    ) -> Refined:
        auto = options.refine is RefineMode.AUTO
        try:
            answer = await self._call(image, regions, options, _Share(budget, AUTO_SHARE) if auto else budget)
            model = await self._name(answer.model)
        except Text4SegError as error:
            if not auto or _is_callers_choice(error):
                raise
            _LOG.warning("the refiner failed, the answer is coarse: %s", error)
            return Refined(tuple(regions), (_failed(error),))
        merged, warnings = await asyncio.to_thread(
            merge_refined, regions, answer.masks, self.min_agreement if auto else None, exclusive
        )
        return Refined(merged, warnings, model)

    async def _call(
        self, image: OpenImage, regions: Sequence[Region], options: SegmentOptions, budget: Budget
    ) -> RefineAnswer:
        refiner = self._expected()
        coarse = tuple(_cells(region).astype(np.float32) for region in regions)
        request = RefineRequest(image.data, coarse, options.seed, options.refiner_model)
        names = {"model": _MODEL_FIELD, "image": image.field, "message": image.field}
        try:
            with fields_renamed(names):
                answer = await refiner.refine(request, budget)
        except InvalidInputError as error:
            if error.field in names.values():
                raise
            raise InternalError(f"the refiner refuses what this server made: {error}") from error
        if len(answer.masks) != len(regions):
            raise InternalError(f"the refiner returned {len(answer.masks)} masks for {len(regions)} regions")
        for refined in answer.masks:
            if refined.mask.shape != image.size:
                raise InternalError(
                    f"the refiner returned a mask {refined.mask.shape}, the image is {image.size}"
                )
        return answer

    def _expected(self) -> Refiner:
        if self._refiner is None:
            raise PeerUnavailableError("refiner", "is not configured on this server")
        return self._refiner

    async def _name(self, model: str) -> str:
        try:
            info = await self._expected().info()
        except Text4SegError:  # it has just answered: not knowing its version is no reason to fail
            return model
        return f"{model} {info.version_of(model)}".strip()


def merge_refined(
    regions: Sequence[Region],
    masks: Sequence[RefinedMask],
    min_agreement: float | None,
    exclusive: bool,
) -> tuple[tuple[Region, ...], tuple[Warning_, ...]]:
    """Put refined masks in the place of coarse ones.

    Args:
        regions: coarse, with full-size masks.
        masks: one for each region.
        min_agreement: a refined mask that is empty or agrees less stays out, with a warning. None: all count.
        exclusive: whether a pixel belongs to one region at most; see :meth:`Refinement.refine`.

    Returns:
        The regions in the same order, without those that lost every pixel to others, and warnings.

    Raises:
        InternalError: a refined mask is empty, and all must be taken.
    """
    merged: list[Region] = []
    warnings: list[Warning_] = []
    for region, refined in zip(regions, masks, strict=True):
        empty = not refined.mask.any()
        if min_agreement is not None and (empty or refined.agreement < min_agreement):
            why = "is empty" if empty else f"shares {refined.agreement:.2f} with the coarse one (IoU)"
            message = f"the refined mask of {region.label!r} {why}: the coarse one was kept"
            warnings.append(Warning_(WarningKind.REFINER_DISAGREED, message))
            merged.append(region)
        elif empty:
            raise InternalError(f"the refined mask of {region.label!r} is empty")
        else:
            refine_score = min(max(refined.score, 0.0), 1.0)
            merged.append(replace(_with_mask(region, refined.mask), refined=True, refine_score=refine_score))
    if not exclusive:
        return tuple(merged), tuple(warnings)
    parted, covered = _part(merged)
    return parted, (*warnings, *covered)


def _part(regions: Sequence[Region]) -> tuple[tuple[Region, ...], tuple[Warning_, ...]]:
    """Give every pixel to the best region that claims it."""
    order = sorted(range(len(regions)), key=lambda index: _rank(regions[index], index))
    kept: dict[int, Region] = {}
    warnings: list[Warning_] = []
    taken: NDArray[np.bool_] | None = None
    for index in order:
        region = regions[index]
        claimed = _pixels(region)
        mask = claimed if taken is None else claimed & ~taken
        taken = claimed.copy() if taken is None else taken | claimed
        if mask.any():
            kept[index] = region if mask is claimed else _with_mask(region, mask)
        else:
            message = f"the refined masks of other regions cover {region.label!r} altogether"
            warnings.append(Warning_(WarningKind.REFINER_DISAGREED, message))
    return tuple(kept[index] for index in sorted(kept)), tuple(warnings)


def _rank(region: Region, index: int) -> tuple[float, float, int]:
    return -region.score, -(region.refine_score or 0.0), index


def _with_mask(region: Region, mask: NDArray[np.bool_]) -> Region:
    box = box_of(mask)
    if box is None:
        raise InternalError("a region has no pixels")
    return replace(region, mask=mask, box=box, area=mask_area(mask))


def _is_callers_choice(error: Text4SegError) -> bool:
    """Say whether the caller asked for what this refiner does not have; any other refusal is a failure.

    The image is no exception: the generator has taken it.
    """
    return isinstance(error, OptionInvalidError) and error.field == _MODEL_FIELD


def _failed(error: Text4SegError) -> Warning_:
    why = "it had no time left" if isinstance(error, DeadlineExceededError) else error.message
    if isinstance(error, InternalError):
        why = "internal error"
    return Warning_(WarningKind.REFINER_FAILED, f"the masks are coarse because the refiner failed: {why}")


def _pixels(region: Region) -> NDArray[np.bool_]:
    if region.mask is None:
        raise InternalError("a region without its full-size mask cannot be refined")
    return region.mask


def _cells(region: Region) -> NDArray[np.bool_]:
    if region.grid_mask is None:
        raise InternalError("a region without its coarse mask cannot be refined")
    return region.grid_mask
