"""From a float model to a PT2E-quantized one that is as right as int8 can be: calibrated, or trained."""
