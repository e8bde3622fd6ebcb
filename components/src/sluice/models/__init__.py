"""What is trained and what is shipped: recipes, builders, encoders, bundles."""
