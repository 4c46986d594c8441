"""Measuring what a bundle paints: on held-out phantoms, whose truth is known, and on real slices."""
