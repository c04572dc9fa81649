"""What became of a model, for people: explain."""
