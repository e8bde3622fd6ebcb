"""Predictions and labels on their way from servers and clients to a store, and joined to evidence there."""
