"""Features: one definition (Feast), one reader, one manifest."""
