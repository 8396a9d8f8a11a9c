"""The training loop, and what stands beside it: batches, recordings, stacks, checkpoints."""
