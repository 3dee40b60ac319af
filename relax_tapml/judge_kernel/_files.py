"""Names of files in the folders of the processes that run a candidate."""

FOUND, REFUSED = "found.json", "refused"
"""What a process that imports a file has found, or why it found nothing."""

MEMORY = "memory"
"""The arguments of a call of a Python callable, mapped by both processes."""
