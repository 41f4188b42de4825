"""Latency, accuracy, footprint, statistics and reports. Runs where numpy and one runtime are; receives plain values."""

import export  # noqa: F401 - before any runtime: it keeps them from reporting to their vendors
