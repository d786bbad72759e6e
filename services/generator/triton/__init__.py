"""Triton, from both sides: the model that it hosts, and the engine that asks it."""
