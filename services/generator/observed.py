"""What the generator tells about its answers."""

from __future__ import annotations

from services.chassis.telemetry import Telemetry
from text4seg.segmentation import FinishReason, GenerateFinish


class GeneratorMetrics:
    """Tokens, and why and when answers ended.

    Args:
        telemetry: of the service.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tokens = telemetry.metrics.count(
            "tokens",
            "Tokens read (prompt) and written (completion); forced: written without asking the model",
            kind=("prompt", "completion", "forced"),
        )
        self._answers = telemetry.metrics.count(
            "answers", "Complete answers of the model, by why it stopped", reason=tuple(FinishReason)
        )

    def answered(self, finish: GenerateFinish) -> None:
        """Record one complete answer."""
        self._tokens.add(finish.prompt_tokens, kind="prompt")
        self._tokens.add(finish.completion_tokens, kind="completion")
        self._tokens.add(finish.forced_tokens, kind="forced")
        self._answers.add(reason=finish.reason)
        self._telemetry.stages(queue=finish.queue_s, prefill=finish.prefill_s, decode=finish.decode_s)
