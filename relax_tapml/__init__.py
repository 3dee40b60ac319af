"""Bring a model up on a new platform: carve operator tests, then migrate operator by operator."""
