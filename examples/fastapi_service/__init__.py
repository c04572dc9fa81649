"""Sentence embeddings over HTTP from a saved model, without PyTorch."""
