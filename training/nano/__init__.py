"""The recipe of the bundled nano model."""
