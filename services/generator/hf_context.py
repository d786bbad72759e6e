"""A transformers model with a key-value cache, as the decode loop wants it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

IMAGE_FEATURES = "image_features"
"""The name under which a model's forward takes what its ``encode_image`` made."""

_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")


class HfContext:
    """What one conversation has read so far.

    Positions, token types and masks are left to the model's own generation hooks
    (``prepare_inputs_for_generation`` and its companions), which models that compute positions from the text
    override. Steps of several tokens are the same as single ones to them.

    Args:
        model: a decoder-only model with ``GenerationMixin``.
        inputs: what the processor made of conversation and image: ``input_ids`` int64 [1, tokens],
            ``attention_mask``, and tensors for the image, or an image encoding under the name that the
            model's forward takes.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Any]) -> None:
        self._model = model
        self._input_ids: torch.Tensor = inputs["input_ids"]
        self._state: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
        self._outputs: Any = None
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read tokens (at first the prompt, then these); return logits [vocabulary] of what follows."""
        added = torch.tensor([list(tokens)], dtype=self._input_ids.dtype, device=self._input_ids.device)
        self._input_ids = torch.cat([self._input_ids, added], dim=1)
        first = self._outputs is None
        if first:
            self._open(len(tokens))
        else:
            self._state.pop(IMAGE_FEATURES, None)
            self._state = self._model._update_model_kwargs_for_generation(
                self._outputs, self._state, num_new_tokens=len(tokens)
            )
        prepared = self._model.prepare_inputs_for_generation(
            self._input_ids,
            next_sequence_length=None if first else len(tokens),
            is_first_iteration=first,
            **self._state,
        )
        self._outputs = self._model(**{**prepared, **self._last_only, "return_dict": True})
        logits: torch.Tensor = self._outputs.logits[0, -1].float()
        return logits

    def _open(self, added: int) -> None:
        if added:
            for name, fill in (("attention_mask", 1), *((name, 0) for name in _TOKEN_TYPES)):
                if (value := self._state.get(name)) is not None:
                    self._state[name] = torch.cat([value, value.new_full((1, added), fill)], dim=1)
        self._state["use_cache"] = True
        if self._takes_positions:
            self._state["position_ids"] = self._model._prepare_position_ids_for_generation(
                self._input_ids, self._state
            )
