"""The nano model: an ImageNet vision tower, a connector into word-embedding space, a prefix language model.

The prompt (image and question) is read with full attention in both directions, the answer is written from
left to right, as in PaliGemma (Beyer et al., 2024). Every visual token can therefore see the question, and
an answer token only has to look up the cell it describes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from text4seg.descriptors import Codec
from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.layers import Layer, rotary_tables
from text4seg_nano.positions import grid_positions
from text4seg_nano.readout import Readout
from text4seg_nano.vision import Connector, VisionTower


@dataclass
class NanoOutput(ModelOutput):
    """What a forward pass returns.

    Attributes:
        loss: Mean cross-entropy of the labels, when given.
        logits: float [batch, kept positions, vocabulary].
        past_key_values: The key-value cache.
        hidden_states: Outputs of every layer, float [batch, length, hidden], when asked for.
        asked: From `asked_of`, float32 [batch, grid * grid].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    asked: torch.Tensor | None = None


class Text4SegNanoForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The nano model with its language-model head, which is tied to the word embeddings."""

    config: Text4SegNanoConfig
    config_class = Text4SegNanoConfig
    main_input_name = "input_ids"
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012 - transformers' declaration
    _supports_sdpa = True

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__(config)
        self.tower = VisionTower(config)
        self.connector = Connector(config)
        self.image_layers = nn.ModuleList([Layer(config, None) for _ in range(config.num_image_layers)])
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, number) for number in range(config.num_hidden_layers - 1)])
        self.readout = Readout(config)
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def rotary(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rotary tables of positions, [batch, length, 2 or 3]: half of each head turns."""
        return rotary_tables(positions, self.config.hidden_size // self.config.num_attention_heads // 2)

    def name_cells(self, middle: torch.Tensor) -> torch.Tensor:
        """Map the tower's features of stride 16 into word-embedding space.

        Args:
            middle: float [batch, channels, image size / 16, image size / 16].

        Returns:
            float [batch, grid * grid, hidden].
        """
        head = self.tower.upper(middle)
        class_logits = self.tower.network.classifier(head.permute(0, 2, 3, 1))
        words: torch.Tensor = self.connector(middle, head, class_logits)
        return words

    def relate_cells(self, words: torch.Tensor) -> torch.Tensor:
        """Let the cells see each other: the image layers, float [batch, grid * grid, hidden] in and out."""
        places = torch.arange(self.config.grid, device=words.device)
        cells = torch.stack(torch.meshgrid(places, places, indexing="ij"), dim=-1).reshape(1, -1, 2)
        rotary = self.rotary(cells.expand(len(words), -1, -1))
        for layer in self.image_layers:
            words = layer(words, rotary)
        return words

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return visual tokens that answer any number of questions, float [batch, grid * grid, hidden].

        Args:
            pixel_values: float [batch, 3, image_size, image_size], RGB scaled to -1..1.
        """
        return self.relate_cells(self.name_cells(self.tower.lower(pixel_values.to(self.dtype))))

    def attention_mask_of(
        self, input_ids: torch.Tensor, positions: torch.Tensor, past: int, padding: torch.Tensor | None
    ) -> torch.Tensor:
        """Return which tokens each head of each new token sees, bool [batch, heads, length, past + length].

        The prompt, up to and including the last assistant mark, is seen by everyone; the answer from left to
        right. Only the rows above in a descriptor are never seen: rows repeat, and a model that sees them
        learns to copy them instead of reading the image (docs/experiments.md). And two heads of a token in a
        descriptor are pointers: the first sees the cell that the token stands on and nothing else, the second
        that cell and those to its right (in I-RLE: and all rows below, where its run may go on).

        Args:
            input_ids: The new tokens, int64 [batch, length].
            positions: `positions.grid_positions` of all tokens, int64 [batch, past + length, 3].
            past: Number of tokens before them.
            padding: [batch, past + length], 0 where a token is padding, which nobody sees; None: no padding.
        """
        places = torch.arange(past + input_ids.shape[1], device=input_ids.device)
        marks = input_ids == self.config.assistant_token_id
        last = torch.where(marks, places[past:] + 1, 0).amax(dim=1)
        queries = places[past:, None]
        seen = (places[None, :] <= queries)[None] | (places[None, None, :] < last[:, None, None])
        rows, columns, described = positions[:, None].unbind(-1)
        from_row, from_column, describes = positions[:, past:, None].unbind(-1)
        seen = seen & ~((rows < from_row) & (described > 0) & (describes > 0))
        if padding is not None:
            seen = seen & padding[:, None, : len(places)].bool()
        last_cell = self.config.grid - 1
        from_column = from_column.clamp(max=last_cell)
        image_cells, from_row = (described == 0) & (rows >= 0), from_row.clamp(max=last_cell)
        row_cells = image_cells & (rows == from_row)
        pointers = [row_cells & (columns == from_column), row_cells & (columns >= from_column)]
        if self.config.codec == Codec.IRLE:
            pointers[1] = pointers[1] | (image_cells & (rows > from_row))
        heads = [torch.where(describes > 0, pointer, seen) for pointer in pointers]
        heads += [seen] * (self.config.num_attention_heads - len(heads))
        return torch.stack(heads, dim=1)

    def cells_of(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the states of the visual tokens, normalised, float [batch, visual tokens, hidden].

        Args:
            hidden: What goes into the last transformer layer, float [batch, length, hidden].
            positions: `positions.grid_positions` of the same tokens; each text has equally many visual ones.
        """
        row, _, describes = positions.unbind(-1)
        cells = hidden[(row >= 0) & (describes == 0)].view(len(hidden), -1, hidden.shape[-1])
        return functional.rms_norm(cells, cells.shape[-1:])

    def asked_of(
        self,
        cells: torch.Tensor,
        read: torch.Tensor,
        words: torch.Tensor,
        positions: torch.Tensor,
        padding: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the logits of the cells being what is asked for right before the last descriptor.

        Args:
            cells: From `cells_of`, float [batch, grid * grid, hidden].
            read: What goes into the last transformer layer, float [batch, length, hidden].
            words: Embeddings of the same tokens, float [batch, length, hidden].
            positions: `positions.grid_positions` of the same tokens.
            padding: [batch, length], 0 where a token is padding; None: no padding.

        Returns:
            float32 [batch, grid * grid].
        """
        row, _, describes = positions.unbind(-1)
        begun = functional.pad(describes[:, 1:] > describes[:, :-1], (1, 0)).cumsum(-1)
        text = (row < 0) & (describes == 0) & (begun == begun[:, -1:] - 1)
        if padding is not None:
            text = text & padding.bool()
        # Every step asks anew, and nearly all tokens are visual ones.
        used = text.any(0)
        states = functional.rms_norm(read[:, used], read.shape[-1:])
        others = self.embed_tokens.weight[self.config.others_token_id]
        asked = self.readout.asked(cells, states, words[:, used], others, text[:, used])
        if self.training:
            return asked
        asked, least = asked + self.config.asked_bias, self.config.least_asked
        found = torch.where(asked.amax(-1, keepdim=True) < least, asked.clamp(max=-least), asked)
        return self.config.asked_weight * found

    def logits_of(
        self, hidden: torch.Tensor, cells: torch.Tensor, asked: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits of the next tokens, float [batch, length, vocabulary].

        Args:
            hidden: Last states, float [batch, length, hidden].
            cells: From `cells_of`; without any the text alone decides.
            asked: From `asked_of`, float [batch, grid * grid].
            positions: `positions.grid_positions` of these tokens, int64 [batch, length, 3].
        """
        tokens = self.norm(hidden)
        if not cells.shape[1]:
            return torch.Tensor(self.lm_head(tokens))
        names, others, lengths = self.readout(tokens, cells, asked, positions)
        logits: torch.Tensor = self.lm_head(tokens + names)
        places = [self.config.others_token_id, *self.config.count_token_ids[: lengths.shape[-1]]]
        added = torch.cat([others, lengths], dim=-1).to(logits.dtype)
        return logits.index_add(-1, torch.tensor(places, device=logits.device), added)

    def forward(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        grid_position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> NanoOutput:
        """Read tokens and predict the next ones.

        Args:
            input_ids: int64 [batch, length]; ``grid * grid`` image tokens stand where the image is.
            pixel_values: float [batch, 3, image_size, image_size], RGB scaled to -1..1.
            image_features: Output of `encode_image`, used in place of `pixel_values`.
            attention_mask: [batch, past + length], 0 where a token is padding.
            grid_position_ids: `positions.grid_positions` of all tokens, int64 [batch, past + length, 3];
                needed when there is a cache, because positions depend on all of the text
                (`prepare_inputs_for_generation` sets them).
            past_key_values: The cache of the tokens before.
            labels: int64 [batch, length], -100 where there is nothing to learn; shifted inside.
            use_cache: Whether to return a cache.
            output_hidden_states: Whether to return every layer's output.
            logits_to_keep: Number of last positions to score, or their indices; 0: all of them.
            kwargs: Ignored; transformers passes arguments of other models.

        Raises:
            ValueError: when `grid_position_ids` are missing, or the image tokens are not as many as the
                visual tokens.
        """
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if grid_position_ids is None:
            if past:
                raise ValueError(
                    "grid_position_ids are needed with a cache: use prepare_inputs_for_generation"
                )
            grid_position_ids = grid_positions(input_ids, self.config)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        hidden = self.embed_tokens(input_ids)
        if pixel_values is not None and image_features is None:
            image_features = self.encode_image(pixel_values)
        if image_features is not None and not past:
            places = input_ids == self.config.image_token_id
            if int(places.sum()) != image_features[..., 0].numel():
                raise ValueError(
                    f"{image_features[..., 0].numel()} visual tokens for {int(places.sum())} image tokens"
                )
            hidden = hidden.masked_scatter(places[..., None], image_features.to(hidden.dtype))
        mask = self.attention_mask_of(input_ids, grid_position_ids, past, attention_mask)
        rotary = self.rotary(grid_position_ids[:, past:])
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, rotary, mask, past_key_values)
            states.append(hidden)
        read, words = states[-2], states[0]
        if past_key_values is not None:
            kept_states = past_key_values.update(read[:, None], words[:, None], len(self.layers))
            read, words = (part[:, 0] for part in kept_states)
        cells = self.cells_of(read, grid_position_ids)
        asked = self.asked_of(cells, read, words, grid_position_ids, attention_mask)
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.logits_of(hidden[:, kept], cells, asked, grid_position_ids[:, past:][:, kept])
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return NanoOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=tuple(states) if output_hidden_states else None,
            asked=asked,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next forward pass.

        Args:
            input_ids: All tokens from the first on, int64 [batch, length].
            next_sequence_length: Not used: what the cache does not hold is new.
            past_key_values: The cache.
            attention_mask: [batch, length], 0 where a token is padding.
            inputs_embeds: Not supported: positions follow from tokens.
            is_first_iteration: Not used.
            kwargs: ``pixel_values`` or ``image_features``, ``logits_to_keep``, ``use_cache``; others are
                ignored.

        Raises:
            ValueError: when `input_ids` is only a part of the text, as with ``prefill_chunk_size``, or
                `inputs_embeds` is given.
        """
        if inputs_embeds is not None:
            raise ValueError("the nano model reads tokens, not inputs_embeds")
        if attention_mask is not None and attention_mask.shape[1] != input_ids.shape[1]:
            raise ValueError(
                f"attention_mask has {attention_mask.shape[1]} places for {input_ids.shape[1]} tokens: "
                "the nano model needs the whole text, and reads a prompt in one piece"
            )
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        return {
            "input_ids": input_ids[:, past:],
            "grid_position_ids": grid_positions(input_ids, self.config),
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "pixel_values": None if past else kwargs.get("pixel_values"),
            "image_features": None if past else kwargs.get("image_features"),
            "logits_to_keep": kwargs.get("logits_to_keep", 0),
            "use_cache": kwargs.get("use_cache", True),
        }
