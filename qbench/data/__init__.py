"""Data sets: loading, preparation, augmentation."""
