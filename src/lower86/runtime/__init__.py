"""Running programs: threads, packed constants, machine code in memory, calls. Imports no torch."""
