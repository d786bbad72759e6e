"""A SAM of segment-anything's own classes: published geometry, hardly any width, random weights."""

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

WIDTH = 16


def tiny_sam(seed: int = 0, side: int = 1024, width: int = WIDTH) -> Sam:
    """Build one in evaluation mode; equal seeds give equal weights. It leaves torch's generator as it was.

    Args:
        seed: Of the weights.
        side: Of the input, in pixels.
        width: Channels of the image encoder, by which the published models are told apart.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                img_size=side,
                patch_size=16,
                depth=1,
                embed_dim=width,
                num_heads=2,
                mlp_ratio=2,
                out_chans=WIDTH,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=8,
                global_attn_indexes=(),
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=WIDTH,
                image_embedding_size=(side // 16, side // 16),
                input_image_size=(side, side),
                mask_in_chans=16,  # a quarter of it is normalized over: 4 would leave nothing of the mask
            ),
            mask_decoder=MaskDecoder(
                num_multimask_outputs=3,
                transformer=TwoWayTransformer(depth=1, embedding_dim=WIDTH, num_heads=2, mlp_dim=WIDTH),
                transformer_dim=WIDTH,
                iou_head_depth=2,
                iou_head_hidden_dim=WIDTH,
            ),
            pixel_mean=[123.675, 116.28, 103.53],
            pixel_std=[58.395, 57.12, 57.375],
        )
        # So that prompts and repeated calls show in a random decoder.
        sam.prompt_encoder.mask_downscaling[-1].weight.data *= 5
        for parameter in sam.mask_decoder.output_hypernetworks_mlps.parameters():
            parameter.data *= 3
    return sam.eval()
