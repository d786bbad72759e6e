"""The nano model: an ImageNet vision tower, a connector into word-embedding space, and a prefix language model.

The prompt (image and question) is read with full attention in both directions, the answer is written from left to right, as in
PaliGemma (Beyer et al., 2024). Every visual token can therefore see the question, and an answer token only
has to look up the cell it describes.
"""

from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as functional
from torch import nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.positions import grid_positions


@dataclass
class NanoOutput(ModelOutput):
    """What a forward pass returns.

    Attributes:
        loss: Mean cross-entropy of the labels, when given.
        logits: float [batch, kept positions, vocabulary].
        past_key_values: The key-value cache.
        hidden_states: Outputs of every layer, float [batch, length, hidden], when asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class VisionTower(nn.Module):
    """EfficientNet-Lite up to its 1x1 head, with two outputs."""

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        self.network = timm.create_model(config.tower, pretrained=False, num_classes=config.tower_classes)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features of stride 16 and of stride 32.

        Args:
            pixel_values: float [batch, 3, height, width], RGB scaled to -1..1.

        Returns:
            float [batch, channels, height / 16, width / 16] and float [batch, channels, height / 32, width / 32].
        """
        network = self.network
        hidden = network.bn1(network.conv_stem(pixel_values))
        middle = hidden
        for stage, block in enumerate(network.blocks):
            hidden = block(hidden)
            if stage == 4:
                middle = hidden
        return middle, network.bn2(network.conv_head(hidden))


class Connector(nn.Module):
    """Maps tower features to one visual token per cell, in the space of the word embeddings.

    Besides a projection of the features it adds the expected word embedding of the tower's own class names, which carries what
    ImageNet already knows about the names of things.
    """

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        channels, hidden = sum(config.tower_channels), config.hidden_size
        self.grid = config.grid
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.dropout = nn.Dropout(0.2)
        self.up = nn.Linear(channels, 2 * hidden)
        self.down = nn.Linear(2 * hidden, hidden)
        self.class_words = nn.Linear(config.tower_classes, hidden, bias=False)

    def forward(self, middle: torch.Tensor, head: torch.Tensor, class_logits: torch.Tensor) -> torch.Tensor:
        """Return visual tokens, float [batch, grid * grid, hidden], row-major.

        Args:
            middle: Stride-16 features, float [batch, channels, grid, grid].
            head: Head features, float [batch, channels, grid / 2, grid / 2].
            class_logits: The tower's class logits at each place of the head, float [batch, grid / 2, grid / 2, classes].
        """
        size = (self.grid, self.grid)
        head = functional.interpolate(head, size=size, mode="bilinear", align_corners=False)
        features = torch.cat([middle, head], dim=1).flatten(2).transpose(1, 2)
        features = self.dropout((features - self.mean) / self.deviation)
        words = self.class_words(class_logits.float().softmax(dim=-1)).permute(0, 3, 1, 2)
        words = functional.interpolate(words, size=size, mode="bilinear", align_corners=False)
        return self.down(functional.gelu(self.up(features))) + words.flatten(2).transpose(1, 2)


def rotary_tables(positions: torch.Tensor, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of two-dimensional rotary embeddings, each float [batch, 1, length, dimensions / 2].

    The first half of the angles turns with the row, the second with the column; wave lengths reach from 3 to 25 cells.
    """
    frequencies = 2.0 * 0.5 ** torch.arange(dimensions // 4, device=positions.device)
    angles = torch.cat([positions[..., axis, None].float() * frequencies for axis in (0, 1)], dim=-1)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn the first dimensions of each head; the others, which compare contents, stay."""
    half = cosines.shape[-1]
    first, second, content = states[..., :half], states[..., half : 2 * half], states[..., 2 * half :]
    cosines, sines = cosines.to(states.dtype), sines.to(states.dtype)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines, content], dim=-1)


class Attention(nn.Module):
    """Multi-head attention with biased queries and keys: the biases let a head look at a fixed distance."""

    def __init__(self, config: Text4SegNanoConfig, layer: int | None) -> None:
        super().__init__()
        self.heads, self.layer = config.num_attention_heads, layer
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        cache: Cache | None,
        begin: int,
    ) -> torch.Tensor:
        """Attend from position `begin` on. ``mask`` is bool [batch, 1, length, keys]: which keys are seen; None: all."""
        batch, length, width = hidden.shape

        def split(states: torch.Tensor) -> torch.Tensor:
            return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        query = rotate(split(self.query(hidden)), *rotary)[:, :, begin:]
        key = rotate(split(self.key(hidden)), *rotary)
        value = split(self.value(hidden))
        if cache is not None and self.layer is not None:
            key, value = cache.update(key, value, self.layer)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(mixed.transpose(1, 2).reshape(batch, length - begin, width))


class Layer(nn.Module):
    """A pre-norm transformer layer with a gated feed-forward network."""

    def __init__(self, config: Text4SegNanoConfig, layer: int | None) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gate = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        begin: int = 0,
    ) -> torch.Tensor:
        """Return the next hidden states from position `begin` on, float [batch, length - begin, hidden]."""
        mixed = self.attention(self.attention_norm(hidden), rotary, mask, cache, begin)
        hidden = hidden[:, begin:] + mixed
        gate, value = self.gate(self.feed_forward_norm(hidden)).chunk(2, dim=-1)
        return hidden + self.down(functional.silu(gate) * value)


class Text4SegNanoForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The nano model with its language-model head, which is tied to the word embeddings."""

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
        self.layers = nn.ModuleList([Layer(config, number) for number in range(config.num_hidden_layers)])
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """Return the language-model head."""
        return self.lm_head

    def _image_rotary(self, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        cells = torch.arange(self.config.grid, device=device)
        positions = torch.stack(torch.meshgrid(cells, cells, indexing="ij"), dim=-1).reshape(1, -1, 2)
        return rotary_tables(positions.expand(batch, -1, -1), self._rotary_dimensions)

    @property
    def _rotary_dimensions(self) -> int:
        return int(self.config.hidden_size // self.config.num_attention_heads // 2)

    def name_cells(self, middle: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """Map tower features into word-embedding space, float [batch, grid * grid, hidden].

        Args:
            middle: Stride-16 features, float [batch, channels, grid, grid].
            head: Head features, float [batch, channels, grid / 2, grid / 2].
        """
        class_logits = self.tower.network.classifier(head.permute(0, 2, 3, 1))
        return self.connector(middle, head, class_logits)

    def relate_cells(self, words: torch.Tensor) -> torch.Tensor:
        """Let the cells see each other: the image layers, float [batch, grid * grid, hidden] in and out."""
        rotary = self._image_rotary(words.shape[0], words.device)
        for layer in self.image_layers:
            words = layer(words, rotary)
        return words

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return visual tokens that answer any number of questions, float [batch, grid * grid, hidden].

        Args:
            pixel_values: float [batch, 3, image_size, image_size], RGB scaled to -1..1.
        """
        return self.relate_cells(self.name_cells(*self.tower(pixel_values.to(self.dtype))))

    def attention_mask_of(self, input_ids: torch.Tensor, past: int, padding: torch.Tensor | None) -> torch.Tensor:
        """Return which keys each new token may see, bool [batch, 1, length, past + length].

        The prompt, up to and including the last assistant mark, is seen by everyone; the answer from left to right.
        """
        batch, length = input_ids.shape
        device = input_ids.device
        places = torch.arange(past + length, device=device)
        marks = input_ids == self.config.assistant_token_id
        last = torch.where(marks, places[past:] + 1, 0).amax(dim=1)
        queries = places[past:, None]
        seen = (places[None, :] <= queries)[None] | (places[None, None, :] < last[:, None, None])
        if padding is not None:
            seen = seen & padding[:, None, : past + length].bool()
        return seen[:, None]

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
            grid_position_ids: int64 [batch, length, 2] of `positions.grid_positions`; needed when there is a cache,
                because positions depend on all of the text (`prepare_inputs_for_generation` sets them).
            past_key_values: The cache of the tokens before.
            labels: int64 [batch, length], -100 where there is nothing to learn; shifted inside.
            use_cache: Whether to return a cache.
            output_hidden_states: Whether to return every layer's output.
            logits_to_keep: Number of last positions to score, or their indices; 0: all of them.
            kwargs: Ignored; transformers passes arguments of other models.
        """
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if grid_position_ids is None:
            if past:
                raise ValueError("grid_position_ids are needed with a cache: use prepare_inputs_for_generation")
            grid_position_ids = grid_positions(input_ids, self.config)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        hidden = self.embed_tokens(input_ids)
        if pixel_values is not None and image_features is None:
            image_features = self.encode_image(pixel_values)
        if image_features is not None and not past:
            places = (input_ids == self.config.image_token_id)[..., None]
            hidden = hidden.masked_scatter(places, image_features.to(hidden.dtype))
        alone = input_ids.shape[1] == 1 and attention_mask is None
        mask = None if alone else self.attention_mask_of(input_ids, past, attention_mask)
        rotary = rotary_tables(grid_position_ids, self._rotary_dimensions)
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, rotary, mask, past_key_values)
            states.append(hidden)
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(self.norm(hidden[:, kept]))
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return NanoOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next forward pass; `input_ids` holds all tokens from the first on."""
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        return {
            "input_ids": input_ids[:, past:],
            "grid_position_ids": grid_positions(input_ids, self.config)[:, past:],
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "pixel_values": None if past else pixel_values,
            "image_features": None if past else image_features,
            "logits_to_keep": logits_to_keep,
            "use_cache": True,
        }
