"""The use case of GetModelInfo."""

from __future__ import annotations

from services.orchestrator.ports import Generator, Refiner
from services.orchestrator.questions import versions_of
from text4seg.errors import Text4SegError
from text4seg.segmentation import GeneratorSummary, Limits, ModelInfo


class Describer:
    """Says which models answer here, and how large a request may be."""

    def __init__(self, generator: Generator, refiner: Refiner | None, limits: Limits) -> None:
        self._generator = generator
        self._refiner = refiner
        self._limits = limits

    async def answer(self) -> ModelInfo:
        """Describe the server. A refiner that was never reached is left out.

        Raises:
            PeerUnavailableError: the generator was never reached.
        """
        generator = await self._generator.info()
        models: tuple[str, ...] = ()
        refiner = ""
        if self._refiner is not None:
            try:
                info = await self._refiner.info()
            except Text4SegError:
                pass
            else:
                models, refiner = info.models, f"{info.model} {info.version}".strip()
        return ModelInfo(
            generator=GeneratorSummary(generator.model, generator.engine, generator.shape, generator.codec),
            refiner_models=models,
            versions=versions_of(generator, refiner),
            limits=self._limits,
        )
