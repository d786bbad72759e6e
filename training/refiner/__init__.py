"""The recipe of the light refiner: photographs with masks in, a checkpoint out."""
