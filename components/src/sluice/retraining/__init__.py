"""When a model is trained anew."""
