"""Modules that a HyperPyYAML file plugs into SpeechBrain."""
