"""lower86 within other libraries: one file each."""
