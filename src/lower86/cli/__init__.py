"""The command `lower86`: one command a file, listed in `main.COMMANDS`. Nothing here is imported by the package."""
