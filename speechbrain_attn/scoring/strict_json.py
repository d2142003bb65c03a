"""Dataclasses as JSON files, with no field too many and none amiss."""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path

from speechbrain_attn.dataio.manifest import write_together
from speechbrain_attn.errors import AttnError

_WORDS = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a string",
    dict: "an object",
    types.NoneType: "null",
}


class JsonFile:
    """A dataclass that is kept as a small JSON file, to read and to compare.

    Field types may be float, int, bool, str, another dataclass, ``dict[str,
    ...]`` and ``... | None``. A dataclass checks ranges in its own
    ``__post_init__``; an AttnError raised there gains the file's name here.
    """

    def save(self, path):
        """Write it whole or not at all.

        Raises
        ------
        AttnError
            The file cannot be written; the message names it.
        """
        values = dataclasses.asdict(self)
        text = json.dumps(values, indent=2, allow_nan=False)
        write_together({path: [text, "\n"]})

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote.

        Raises
        ------
        AttnError
            There is no such file, it is not JSON, or a field is missing,
            unknown or not as it should be; the message names file and field.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or f"not JSON: {error}"
            raise AttnError(f"{path}: cannot be read ({reason}).") from None
        try:
            return _instance(values, cls, "")
        except AttnError as error:
            raise AttnError(f"{path}: {error}") from None


def _instance(values, cls, field):
    values = _kept(values, dict, field)
    kinds = typing.get_type_hints(cls)
    names = [known.name for known in dataclasses.fields(cls)]
    inside = f"{field}." if field else ""
    for name in names:
        if name not in values:
            raise AttnError(
                f"field {inside}{name} is missing; is it the right file, and "
                "of this version? Make it anew."
            )
    for name in values:
        if name not in names:
            raise AttnError(
                f"field {inside}{name} is unknown; known are "
                f"{', '.join(names)}."
            )
    return cls(
        **{n: _value(values[n], kinds[n], f"{inside}{n}") for n in names}
    )


def _value(value, kind, field):
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        (kind,) = set(typing.get_args(kind)) - {types.NoneType}
    if dataclasses.is_dataclass(kind):
        return _instance(value, kind, field)
    if typing.get_origin(kind) is dict:
        _, inner = typing.get_args(kind)
        items = _kept(value, dict, field).items()
        return {key: _value(v, inner, f"{field}.{key}") for key, v in items}
    return _kept(value, kind, field)


def _kept(value, kind, field):
    """The value, which must be of the kind; a whole number is a float too."""
    # A bool is an int to Python, and NaN a float to its reader of JSON.
    fits = type(value) is kind or (kind is float and type(value) is int)
    if kind is float and fits:
        fits = math.isfinite(value)
    if not fits:
        raise AttnError(
            f"field {field or '(all of it)'}: want {_WORDS[kind]}, got "
            f"{json.dumps(value)}."
        )
    return float(value) if kind is float else value
