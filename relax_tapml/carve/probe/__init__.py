"""Inputs that a run did not have, one kind of idea in each module."""
