"""Offline datasets, the replay ring, the environment loop and the Lightning DataModule."""
