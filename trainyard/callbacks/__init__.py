"""What happens beside the training step: metrics, progress, the agreed stop."""
