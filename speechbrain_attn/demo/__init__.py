"""The made-up corpus and the demonstration that runs on it."""
