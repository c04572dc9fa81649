"""How `tools/performance_page.py` makes pages and figures of a record of benchmarks."""
