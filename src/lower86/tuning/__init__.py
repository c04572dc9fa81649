"""Choosing each layer's precision by what it does to the user's metric and to measured latency."""
