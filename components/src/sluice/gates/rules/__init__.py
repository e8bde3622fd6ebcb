"""The rules that a stage of the online gate may ask: one file a kind, one line each in ``registry``."""
