"""Text4Seg nano: a small vision-language model that writes segmentation masks as text.

Importing this package registers the model with transformers' Auto classes, so that
``AutoModelForImageTextToText.from_pretrained("models/nano")`` and ``AutoProcessor`` find it.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.modeling import Text4SegNanoForConditionalGeneration
from text4seg_nano.processing import Text4SegNanoProcessor

AutoConfig.register(Text4SegNanoConfig.model_type, Text4SegNanoConfig, exist_ok=True)
AutoModelForImageTextToText.register(Text4SegNanoConfig, Text4SegNanoForConditionalGeneration, exist_ok=True)
AutoProcessor.register(  # type: ignore[no-untyped-call]
    Text4SegNanoConfig, Text4SegNanoProcessor, exist_ok=True
)

__all__ = ["Text4SegNanoConfig", "Text4SegNanoForConditionalGeneration", "Text4SegNanoProcessor"]
