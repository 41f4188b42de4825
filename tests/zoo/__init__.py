"""Tiny models of many types of transformers through whole runs: `python -m tests.zoo`. Not part of the suite, for it takes hours."""
