"""Smaller models from the teacher: distilled, quantized, pruned."""
