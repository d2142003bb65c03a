"""Trained runs as model folders, and weights from elsewhere."""
