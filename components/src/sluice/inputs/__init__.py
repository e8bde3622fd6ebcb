"""What a request may carry: one file a kind of input, and nothing else that asks which kind it is."""
