"""The parts of the MiniLM demo: its texts, its encoder, its measurements and its table."""
