"""The refiner: image and coarse masks in, sharpened masks out."""
