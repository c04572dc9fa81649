"""A lowered model as one data-only file that runs without PyTorch."""
