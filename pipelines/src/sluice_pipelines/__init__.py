"""KFP pipelines: wiring only, no logic and no I/O. Importable from the repository root only, never installed."""
