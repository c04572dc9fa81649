"""The vocabulary of all graph stages: arguments by name, forms, edits, text, the user's source lines."""
