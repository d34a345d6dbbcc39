"""Arithmetic kernels and random bits."""
