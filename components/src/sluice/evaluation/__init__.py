"""How good a model is, by slice, with intervals."""
