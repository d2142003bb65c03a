"""Speech from text by espeak-ng, through the library in espeakng-loader."""

import ctypes
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from speechbrain_attn.errors import AttnError

# English accents that espeak-ng 1.52 has.
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """One private instance of espeak-ng; ``open_espeak`` makes it.

    Attributes
    ----------
    sample_rate : int
        Of all it speaks, in samples per second (22,050).
    variants : list of str
        Its voice variants, sorted.
    """

    def __init__(self, library, data_folder, seed):
        self._library = ctypes.CDLL(str(library))
        self.sample_rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(data_folder).encode(), _DO_NOT_EXIT
        )
        if self.sample_rate <= 0:
            raise AttnError(
                f"espeak-ng did not start with its data in {data_folder}; its "
                "paths may have about 150 characters. Set TMPDIR to a shorter "
                "folder, or install again: pip install -U espeakng-loader"
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._blocks = []
        # Kept as an attribute: ctypes does not hold the function alive.
        self._callback = _CALLBACK(self._take)
        self._library.espeak_SetSynthCallback(self._callback)
        variants = Path(data_folder, "voices", "!v")
        self.variants = sorted(path.name for path in variants.iterdir())

    def _take(self, samples, count, _events):
        if samples and count > 0:
            block = np.ctypeslib.as_array(samples, (count,))
            self._blocks.append(block.copy())  # the buffer is used again
        return 0

    def speak(self, text, accent, variant, rate, pitch, pitch_range):
        """Say a text.

        Arguments
        ---------
        text : str
            In English.
        accent : str
            One of ``ACCENTS``.
        variant : str
            One of ``variants``.
        rate : float
            Words per minute, 80 to 450.
        pitch, pitch_range : float
            0 to 99; 50 is the variant's own.

        Returns
        -------
        numpy.ndarray
            [samples] float32 in [-1, 1] at ``sample_rate``.

        Raises
        ------
        AttnError
            The accent is not known, or nothing was spoken.
        """
        voice = f"{accent}+{variant}"
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise AttnError(
                f"espeak-ng has no voice {voice!r}; accents: "
                f"{', '.join(ACCENTS)}."
            )
        for parameter, value in (
            (_RATE, rate),
            (_PITCH, pitch),
            (_PITCH_RANGE, pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._blocks.clear()
        raw = text.encode()
        self._library.espeak_Synth(
            raw, len(raw) + 1, 0, 1, 0, _UTF8, None, None
        )
        self._library.espeak_Synchronize()
        if not self._blocks:
            raise AttnError(
                f"espeak-ng spoke nothing for {text!r} with voice {voice!r}; "
                "install it again: pip install -U espeakng-loader"
            )
        return np.concatenate(self._blocks).astype(np.float32) / 32768


@contextmanager
def open_espeak(seed=0):
    """Give a fresh espeak-ng, seeded; the same calls give the same samples.

    espeak-ng keeps its state (random numbers, flutter of the pitch) in static
    variables for as long as the library is loaded. So a copy of the library
    is loaded, which is an instance of its own: what was spoken before, here
    or in another thread, has no say. Its English data are copied to the same
    place, since it takes only short paths.

    Raises
    ------
    AttnError
        espeakng-loader is not installed, or espeak-ng does not start.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise AttnError(
            "the made-up voices need espeak-ng: pip install espeakng-loader"
        ) from None

    def other_languages(_folder, names):
        return [n for n in names if n.endswith("_dict") and n != "en_dict"]

    # A loaded library cannot be deleted on Windows: its copy stays there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = shutil.copy(espeakng_loader.get_library_path(), folder)
        data = Path(folder, "espeak-ng-data")
        shutil.copytree(
            espeakng_loader.get_data_path(), data, ignore=other_languages
        )
        yield Espeak(library, data, seed)
