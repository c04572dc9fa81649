"""The numeric debugger: a float model, its quantized graph and the compiled program, value by value."""
