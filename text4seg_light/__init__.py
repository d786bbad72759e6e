"""The light refiner: SAM's prompt encoder and mask decoder, small, over an EfficientNet-Lite."""

from text4seg_light.checkpoint import load, save
from text4seg_light.model import Features, LightConfig, LightRefiner, ProjectedImage, image_pixels

__all__ = ["Features", "LightConfig", "LightRefiner", "ProjectedImage", "image_pixels", "load", "save"]
