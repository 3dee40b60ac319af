"""Relax passes for operator-wise test carving and migration, and the intrinsics they call."""
