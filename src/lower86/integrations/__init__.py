"""lower86 within other libraries: one file or folder each."""
