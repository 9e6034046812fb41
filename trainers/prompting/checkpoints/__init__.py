"""Checkpoints: finding, reading and translating them."""
