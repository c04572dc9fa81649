"""Machine code from kernel descriptions: LLVM IR built in Python, compiled for the CPU at hand."""
