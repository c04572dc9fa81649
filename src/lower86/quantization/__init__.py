"""Quantization of models: what `lower86.quantize` and quantization-aware training are made of."""
