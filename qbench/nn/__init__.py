"""Layers that quantise, and the conversion of a float model."""
