"""Aggregate, then render: terminal, files, plots."""
