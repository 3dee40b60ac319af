"""Files of ours on disk: read with suspicion, written as a whole or not at all."""
