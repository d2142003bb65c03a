"""Speaker-embedding networks, one system a file."""
