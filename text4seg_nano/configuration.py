"""Configuration of the nano model."""

from typing import Any

from transformers import PreTrainedConfig

from text4seg.descriptors import Codec


class Text4SegNanoConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of the nano model and the token ids that its positions depend on.

    Attributes:
        num_image_layers: Layers in which visual tokens see only each other, before any text.
        num_hidden_layers: Layers of the language model; the last one is the readout.
        tower: Name of the timm architecture of the vision tower.
        image_size: Side of the square input image in pixels, a multiple of 32; what the tower sees in it is
            pooled into the cells of the grid.
        grid: Rows (and columns) of the descriptor grid; one visual token per cell.
        tower_channels: Channels of the two tower outputs: stride 16, and the head at stride 32.
        asked_bias: Added to how much a cell is asked for when answering, not when learning: above zero more
            is found, and less is called absent.
        least_asked: Logit that some cell must reach, when answering, for anything to be found. Cells that all
            are but a little more likely than not are seldom what is asked for.
        asked_weight: How much the answer follows that: its logits are multiplied when answering.
        count_token_ids: Token id of the run length ``" *n"`` at index n - 1.
        bar_token_id: Token id of ``"| "``, between the labels of a row.
        codec: How descriptors are written, a value of `text4seg.descriptors.Codec`.
        text4seg: What serving needs to know: grid, codec, template version, calibration.
    """

    model_type = "text4seg_nano"

    def __init__(
        self,
        vocab_size: int = 1024,
        hidden_size: int = 256,
        intermediate_size: int = 640,
        num_attention_heads: int = 8,
        num_image_layers: int = 2,
        num_hidden_layers: int = 6,
        tower: str = "tf_efficientnet_lite2",
        tower_channels: tuple[int, int] = (120, 1280),
        tower_classes: int = 1000,
        image_size: int = 384,
        grid: int = 24,
        rms_norm_eps: float = 1e-5,
        image_token_id: int = 1,
        assistant_token_id: int = 2,
        seg_open_token_id: int = 3,
        seg_close_token_id: int = 4,
        row_token_id: int = 5,
        others_token_id: int = 6,
        asked_bias: float = 0.0,
        least_asked: float = 0.0,
        asked_weight: float = 1.0,
        count_token_ids: tuple[int, ...] = (),
        bar_token_id: int = 7,
        codec: str = "r-rle",
        pad_token_id: int = 0,
        eos_token_id: int = 0,
        text4seg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_attention_heads = num_attention_heads
        self.num_image_layers = num_image_layers
        self.num_hidden_layers = num_hidden_layers
        self.tower = tower
        self.tower_channels = list(tower_channels)
        self.tower_classes = tower_classes
        self.image_size = image_size
        self.grid = grid
        self.rms_norm_eps = rms_norm_eps
        self.image_token_id = image_token_id
        self.assistant_token_id = assistant_token_id
        self.seg_open_token_id = seg_open_token_id
        self.seg_close_token_id = seg_close_token_id
        self.row_token_id = row_token_id
        self.others_token_id = others_token_id
        self.asked_bias = asked_bias
        self.least_asked = least_asked
        self.asked_weight = asked_weight
        self.count_token_ids = list(count_token_ids)
        self.bar_token_id = bar_token_id
        self.codec = Codec(codec).value
        self.text4seg = text4seg or {}
        kwargs.setdefault("tie_word_embeddings", True)
        self.pad_token_id = pad_token_id
        self.eos_token_id = eos_token_id
        super().__init__(**kwargs)

    @property
    def longest_run(self) -> int:
        """Cells of the longest run: a row, or in I-RLE the whole image; 0 in full length, without counts."""
        return {Codec.RRLE: self.grid, Codec.IRLE: self.grid**2, Codec.FULL: 0}[Codec(self.codec)]
