"""From embeddings and trials to scores and metrics; knows arrays only."""
