"""Attentive speaker embeddings as SpeechBrain lobes."""

__version__ = "0.1.0"
