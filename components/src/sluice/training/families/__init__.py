"""Families of models: what a recipe may name as its teacher. Nothing outside this room asks which family it is."""
