"""Latency, accuracy, footprint, statistics and reports. Runs where numpy and one runtime are; receives plain values."""
