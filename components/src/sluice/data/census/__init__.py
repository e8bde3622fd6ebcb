"""Statistics of tables of any size: one pass over batches, and parts that merge to the same as the whole."""
