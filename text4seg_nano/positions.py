"""Where each token stands: the position of text in the plane of the image.

A token that describes the image stands on the cell that is described next, a visual token on its own cell,
and all other text on a line above the image. What moves on is a run length, in full length a bar; in I-RLE a
run may go on in the next row. Two-dimensional rotary embeddings then let an attention head
find "the cell I am about to describe" by distance zero, however long the text before it is. The state
follows from the text alone.
"""

import torch

from text4seg.descriptors import Codec
from text4seg_nano.configuration import Text4SegNanoConfig

TEXT_ROW = -4
"""Row of all text outside of descriptor blocks."""


def grid_positions(input_ids: torch.Tensor, config: Text4SegNanoConfig) -> torch.Tensor:
    """Return the row and the column of every token, and whether it describes the image.

    Padding takes no place: text stands where it would stand without the padding before it.

    Args:
        input_ids: Token ids, int64 [batch, length], complete from the first token on.
        config: Holds the ids of the tokens that move the position.

    Returns:
        int64 [batch, length, 3]: row and column, 0-based cells of the grid, in which the places just behind
        the last column and below the last row exist too; text outside of blocks has row ``TEXT_ROW``. Then 1
        for tokens inside of a block, 0 for all others.
    """
    codec = Codec(config.codec)
    steps = {token: number for number, token in enumerate(config.count_token_ids, start=1)}
    if codec is Codec.FULL:
        steps = {config.bar_token_id: 1}
    wraps = codec is Codec.IRLE
    # Read once: transformers makes every look at a configuration expensive.
    grid, image_token, row, pad = config.grid, config.image_token_id, config.row_token_id, config.pad_token_id
    seg_open, seg_close = config.seg_open_token_id, config.seg_close_token_id
    samples = []
    for tokens in input_ids.tolist():
        cell, line, image, inside = (0, 0), 0, 0, False
        places = []
        for token in tokens:
            if token == image_token:
                places.append((image // grid % grid, image % grid, 0))
                image += 1
                continue
            if token == seg_open:
                cell, inside = (0, 0), True
            elif token == seg_close:
                inside = False
            elif inside and token in steps:
                if wraps:
                    cell = divmod(min(cell[0] * grid + cell[1] + steps[token], grid * grid), grid)
                else:
                    cell = (cell[0], min(cell[1] + steps[token], grid))
            elif inside and token == row and not wraps:
                cell = (min(cell[0] + 1, grid), 0)
            if inside:
                places.append((*cell, 1))
            else:
                places.append((TEXT_ROW, line, 0))
                line += token != pad
        samples.append(places)
    positions = torch.tensor(samples, dtype=torch.long, device=input_ids.device)
    return positions.reshape(*input_ids.shape, 3)
