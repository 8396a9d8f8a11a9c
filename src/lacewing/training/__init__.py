"""The training loop and its parts: batches, recordings, stacks, checkpoints."""
