"""INT8 graph to Program: nodes grouped into kernels, movement turned into strides, buffers placed in one arena."""
