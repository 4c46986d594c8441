"""Spinepaint puts a chosen pathology into a real lumbar-spine MRI."""

__version__ = "0.1.0"
