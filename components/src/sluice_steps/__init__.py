"""KFP components: thin shells over ``sluice``. Importable from the repository root only, never installed."""
