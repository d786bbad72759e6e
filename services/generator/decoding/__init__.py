"""Constrained decoding of our own: grammar masks, forced tokens, streaming text with exact token offsets."""
