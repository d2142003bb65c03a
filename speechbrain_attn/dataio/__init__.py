"""From audio files and trial lists to batches."""
