"""Benchmarks that anyone can run: `python -m bench`. Figures are ratios against something measured in the same run."""
