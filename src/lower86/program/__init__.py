"""A lowered model as plain data: sizes, expressions, kernels, steps, buffers. Knows nothing of torch or LLVM."""
