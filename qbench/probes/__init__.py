"""Observers of training."""
