"""A light refiner of the real class: small, with random weights."""

import torch

from text4seg_light import LightConfig, LightRefiner

TINY = LightConfig(encoder="tf_efficientnet_lite0", side=64, width=32, depth=1, heads=2, hidden=32)


def tiny_light(seed: int = 0, config: LightConfig = TINY) -> LightRefiner:
    """Build one in evaluation mode; equal seeds give equal weights. It leaves torch's generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LightRefiner(config)
    # So that images and prompts show in a random decoder.
    for parameter in model.decoder.output_hypernetworks_mlps.parameters():
        parameter.data *= 3
    return model.eval().requires_grad_(False)
