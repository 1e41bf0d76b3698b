"""Lightbench: from raw instrument files to a trained, trusted, exportable model."""

__version__ = "0.1.0"
