"""The report on files that are unusual or of no use."""

from collections import Counter

# Reason as the report names it: what a user may do about it.
HINTS = {
    "cannot be read": "replace or remove them",
    "too short to hold speech": "only trials keep such files",
    "shorter than a chunk": "keep_short=True, or --keep-short, keeps each as "
    "one row",
    "silent": "lower amp_th to keep them",
    "partly silent": "their silent chunks are left out",
    "the same utterance in another format": "the detail names the one taken",
    "not at <speaker>/<session>/<utterance>": "move them there to use them",
    "cut short": "what is there is used",
    "several channels": "read as their mean",
    "another sample rate": "converted to 16 kHz when read",
}


class Report:
    """Collects (path, reason, detail, left out or not).

    Example
    -------
    >>> report = Report()
    >>> report.add("a.wav", "silent")
    >>> report.summary()
    ['1 file left out: silent (lower amp_th to keep them).']
    """

    def __init__(self):
        self._entries = []

    def add(self, path, reason, detail="", *, left_out=True):
        """Note a file; ``reason`` is a key of ``HINTS``."""
        if reason not in HINTS:
            raise KeyError(f"reason '{reason}' is not in HINTS")
        self._entries.append((path, reason, detail, left_out))

    def counts(self):
        """Number of files left out, by reason."""
        return Counter(
            reason for _, reason, _, left_out in self._entries if left_out
        )

    def rows(self):
        """Rows of the report's CSV file, the heading first."""
        yield ("path", "reason", "detail", "left_out")
        # A stereo file may be too short as well: one word for each file.
        gone = {path for path, _, _, left_out in self._entries if left_out}
        for path, reason, detail, _ in sorted(self._entries):
            yield (path, reason, detail, "yes" if path in gone else "no")

    def summary(self):
        """One sentence for each reason, those of files left out first."""
        counts = Counter(
            (not left_out, reason) for _, reason, _, left_out in self._entries
        )
        return [
            f"{_files(count)} {'kept' if kept else 'left out'}: {reason} "
            f"({HINTS[reason]})."
            for (kept, reason), count in sorted(counts.items())
        ]


def _files(count):
    return f"{count:,} file{'s' if count > 1 else ''}"
