"""Parts of benchmarks/gpu.py: what a GPU reaches, and what Farthing reaches on it."""
