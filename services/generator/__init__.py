"""The generator service: an image and a conversation in, text out."""
