"""An MkDocs plugin that writes a reference page for every file of a repository: `plugin.py` is where it begins."""
