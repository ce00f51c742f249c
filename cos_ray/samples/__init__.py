"""Applications to learn from and to copy; they use nothing of cos_ray but its public protos."""
