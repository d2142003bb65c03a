"""Numbers for names, looked up for many names at once."""

import numpy as np

_WORD = 8  # bytes that the hash takes at a time
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd; 2**64 over the golden ratio


class NameTable:
    """Gives each name a number, in the order in which names first appear.

    A dict does the same. Millions of look-ups among hundreds of thousands of
    names wait for memory there, one after the other; here those of a block go
    together, which is about five times as fast. Names are compared whole, so
    a hash that two names share costs time and nothing else.

    Example
    -------
    >>> table = NameTable()
    >>> table.numbers(np.array([b"b", b"a", b"b"]))
    array([0, 1, 0], dtype=int32)
    >>> table.numbers(np.array([b"c", b"a"]))
    array([2, 1], dtype=int32)
    >>> table.names()
    ['b', 'a', 'c']
    """

    def __init__(self):
        self._count = 0
        self._names = np.zeros(256, f"S{_WORD}")  # zeros after the last
        self._make_slots()

    def names(self):
        """The names as str, each at its number."""
        return [name.decode() for name in self._names[: self._count].tolist()]

    def numbers(self, fields):
        """Numbers of names, [fields] int32; a new name gets the next one.

        ``fields`` [fields] are bytes, of numpy's type "S".
        """
        width = -(-fields.itemsize // _WORD) * _WORD
        if width > self._names.itemsize:
            self._names = self._names.astype(f"S{width}")
        fields = fields.astype(self._names.dtype)
        found = self._find(fields)
        new = fields[found < 0]
        if len(new):
            self._add(np.array(list(dict.fromkeys(new.tolist())), new.dtype))
            found = self._find(fields)
        return found

    def _find(self, names):
        """Numbers of names, -1 for those not in the table."""
        slots = self._home(names)
        found = self._slots[slots]
        others = np.flatnonzero((found >= 0) & (self._names[found] != names))
        while len(others):  # another name holds the slot: look in the next
            slots[others] = (slots[others] + 1) % len(self._slots)
            there = found[others] = self._slots[slots[others]]
            taken = (there >= 0) & (self._names[there] != names[others])
            others = others[taken]
        return found

    def _add(self, names):
        """Append names that are new and distinct."""
        first, self._count = self._count, self._count + len(names)
        if self._count > len(self._names):
            larger = np.zeros(2 * self._count, self._names.dtype)
            larger[:first] = self._names[:first]
            self._names = larger
            self._names[first : self._count] = names
            self._make_slots()
        else:
            self._names[first : self._count] = names
            self._fill_slots(first)

    def _make_slots(self):
        # At most one slot in four is taken, so that few names meet.
        self._bits = (4 * len(self._names) - 1).bit_length()
        self._slots = np.full(1 << self._bits, -1, np.int32)
        self._fill_slots(0)

    def _fill_slots(self, first):
        """Put the names from ``first`` on into slots."""
        numbers = np.arange(first, self._count, dtype=np.int32)
        slots = self._home(self._names[first : self._count])
        while len(numbers):
            free = self._slots[slots] < 0
            # Of several names that want one free slot, one gets it.
            self._slots[slots[free]] = numbers[free]
            left = self._slots[slots] != numbers
            numbers = numbers[left]
            slots = (slots[left] + 1) % len(self._slots)

    def _home(self, names):
        """The slot of each name, where no other holds it: a hash."""
        total = np.zeros(len(names), np.uint64)
        shape = len(names), names.itemsize // _WORD
        words = names.view(np.uint64).reshape(shape)
        for place, word in enumerate(words.T):
            # The zeros that pad a name add nothing, however many they are.
            odd = _MULTIPLIER * (2 * place + 1) % (1 << 64)
            part = word * np.uint64(odd)
            total += part ^ (part >> np.uint64(32))
        total *= np.uint64(_MULTIPLIER)
        return (total >> np.uint64(64 - self._bits)).astype(np.intp)
