"""Other ways to run the same float model, int8 each in its own best way, measured beside lower86. Needs torch."""
