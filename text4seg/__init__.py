"""Text4Seg: image segmentation written as text. This package is the domain core (stdlib and numpy only)."""

__version__ = "0.1.0"
