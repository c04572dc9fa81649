"""From a module to a graph: export, decomposition. The only stage that knows `torch.export`."""
