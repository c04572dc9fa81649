"""From a float model and inputs to calibrate with, to a PT2E-quantized model that is as right as int8 can be."""
