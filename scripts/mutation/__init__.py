"""Broken kernels and correct variants of kernels, and what a carved suite makes of them."""
