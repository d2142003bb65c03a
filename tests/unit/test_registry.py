"""A registry gives back what was enrolled, or says what is wrong."""

import sqlite3

import numpy as np
import pytest
from registry_runs import MODEL, SIZE, utterances

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference import registry_file
from speechbrain_attn.inference.registry import Registry

NAMES = ["anna", "ben", "Zo\u00eb", "\u674e 'x'; DROP"]


@pytest.fixture
def folder(tmp_path):
    """A registry in a folder whose name means something in an address."""
    folder = tmp_path / "made" / "a #1?x%20"
    with Registry.create(folder, MODEL, SIZE) as registry:
        for name in NAMES:
            registry.add([name] * 2, utterances(name))
    return folder


@pytest.fixture
def registry(folder):
    with Registry.open(folder, MODEL) as registry:
        yield registry


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def voice_of(registry, name):
    names, _, voices = registry.voices_of(registry.ids())
    return voices[names.index(name)]


def test_a_voice_is_the_mean_of_unit_embeddings(registry):
    assert registry.speakers() == sorted((name, 2) for name in NAMES)
    assert len(registry) == 4 and registry.embedding_size == SIZE
    for name in NAMES:
        scaled = utterances(name) * [[1], [1]]
        expected = unit(unit(scaled).mean(0))
        np.testing.assert_allclose(voice_of(registry, name), expected, 1e-6)


def test_loud_and_soft_utterances_count_the_same(registry):
    rows = utterances("carla", 3)
    registry.add(["carla"] * 3, rows * [[1e3], [1], [1e-3]])
    expected = unit(unit(rows).mean(0))
    np.testing.assert_allclose(voice_of(registry, "carla"), expected, 1e-5)


def test_more_utterances_of_a_known_speaker(registry):
    rows = utterances("anna", 5)  # of which the first two are there
    assert registry.add(["anna"] * 3, rows[2:]) == 3
    assert dict(registry.speakers())["anna"] == 5
    expected = unit(unit(rows).mean(0))
    np.testing.assert_allclose(voice_of(registry, "anna"), expected, 1e-5)


def test_the_same_utterance_is_not_taken_twice(registry):
    before = voice_of(registry, "anna")
    rows = utterances("anna")
    assert registry.add(["anna", "anna", "dora"], [*rows, rows[0]]) == 1
    assert registry.add(["eva"] * 3, rows[[0, 0, 1]]) == 2
    np.testing.assert_array_equal(voice_of(registry, "anna"), before)


def test_one_name_in_two_spellings(registry):
    registry.add(["Zoe\u0308"], utterances("other", 1))
    assert dict(registry.speakers())["Zo\u00eb"] == 3


def test_remove_leaves_nothing_of_the_voice(folder, registry):
    file, rows = folder / registry_file.FILE, utterances("anna")
    kept = voice_of(registry, "ben").tobytes()
    gone = [b"anna", voice_of(registry, "anna").tobytes()]
    gone += [row.tobytes() for row in registry.unit_embeddings(rows)]
    assert all(some in file.read_bytes() for some in [kept, *gone])
    last = max(registry.ids())
    registry.remove("anna")
    assert "anna" not in dict(registry.speakers()) and len(registry) == 3
    assert not any(some in file.read_bytes() for some in gone)
    assert kept in file.read_bytes()
    registry.remove(NAMES[-1])
    registry.add(["new"], utterances("new", 1))
    assert max(registry.ids()) > last  # an old index must not lead to "new"


def test_rename_keeps_the_voice(registry):
    before = voice_of(registry, "ben")
    registry.rename("ben", "Benjamin")
    np.testing.assert_array_equal(voice_of(registry, "Benjamin"), before)
    assert "ben" not in dict(registry.speakers())


def test_a_cohort_takes_the_place_of_the_last(registry):
    assert registry.cohort().shape == (0, SIZE)
    registry.set_cohort(utterances("x", 5))
    registry.set_cohort(utterances("y", 3))
    np.testing.assert_allclose(
        registry.cohort(), unit(utterances("y", 3)), 1e-6
    )


def test_all_or_nothing(registry):
    """A name that fails undoes those before it in the same call."""
    rows = np.stack([*utterances("new"), -utterances("new")[0]])
    with pytest.raises(AttnError, match="mean of 'out': row 0 has norm 0"):
        registry.add(["new", "out", "out"], rows[[1, 0, 2]])
    assert "new" not in dict(registry.speakers())
    registry.add(["new"], rows[:1])  # the file is not locked after that


def test_blocks_of_voices_are_all_voices(registry, monkeypatch):
    monkeypatch.setattr("speechbrain_attn.inference.registry._BLOCK", 3)
    monkeypatch.setattr("speechbrain_attn.inference.registry._FEW", 3)
    ids, voices = map(np.concatenate, zip(*registry.voices(), strict=True))
    assert ids.tolist() == registry.ids().tolist() == [1, 2, 3, 4]
    names, _, same = registry.voices_of([3, 77, 1, 4, 2])
    assert sorted(names) == sorted(NAMES) and same.shape == voices.shape


# fmt: off
BAD_NAMES = [  # id, name, what the message must say
    ("empty", "", "speaker '': want a name, not empty"),
    ("blank", " \t", "want a name, not empty"),
    ("none", None, "speaker None: want a name"),
    ("lines", "a\nb", r"speaker 'a\\nb': want a name on one line"),
    ("bell", "a\a", "characters that can be printed"),
    ("bytes", "a\udcff", "characters that can be printed"),
    ("around", " anna", "speaker ' anna': .*without blanks around"),
]
# fmt: on


@pytest.mark.parametrize(
    "name, says", [pytest.param(*row[1:], id=row[0]) for row in BAD_NAMES]
)
def test_odd_names_are_refused(registry, name, says):
    with pytest.raises(AttnError, match=says):
        registry.add([name], utterances("new", 1))
    with pytest.raises(AttnError, match=says):
        registry.rename("anna", name)
    assert len(registry) == 4


# fmt: off
BAD_CALLS = [  # id, what is done, what the message must say
    ("size", lambda r: r.add(["a"], np.ones((1, 5))),
     "have size 5, but the registry .* has size 7. Are both from the same"),
    ("axes", lambda r: r.add(["a"], np.ones(7)), r"got \(7,\)"),
    ("rows", lambda r: r.add(["a"], np.ones((2, 7))),
     "names: got 1 for 2 embeddings"),
    ("zero", lambda r: r.add(["a"], np.zeros((1, 7))), "row 0 has norm 0"),
    ("nan", lambda r: r.add(["a"], np.full((1, 7), np.nan)), "norm nan"),
    ("cohort", lambda r: r.set_cohort(np.ones((1, 5))), "have size 5"),
    ("remove", lambda r: r.remove("ana"),
     "has no speaker 'ana' among 4; did you mean 'anna'"),
    ("unlike", lambda r: r.remove("q"), "no speaker 'q' among 4; `list` shows"),
    ("rename", lambda r: r.rename("q", "x"), "has no speaker 'q'"),
    ("taken", lambda r: r.rename("ben", "anna"),
     "has a speaker 'anna' already; choose another"),
]
# fmt: on


@pytest.mark.parametrize(
    "call, says", [pytest.param(*row[1:], id=row[0]) for row in BAD_CALLS]
)
def test_bad_calls_are_refused_and_change_nothing(registry, call, says):
    before = registry.speakers()
    with pytest.raises(AttnError, match=says):
        call(registry)
    assert registry.speakers() == before and len(registry.cohort()) == 0


def test_another_model_is_refused(folder):
    other = "cd" * 32
    says = (
        "holds voices of another model .fingerprint abababababab, this one "
        "has cdcdcdcdcdcd.*enrol all again into another folder"
    )
    with pytest.raises(AttnError, match=says):
        Registry.open(folder, other)
    with pytest.raises(AttnError, match=says):
        Registry.create(folder, other, SIZE)


def spoil(folder, what):
    """Make a folder hold no sound registry."""
    path = folder / registry_file.FILE
    body = path.read_bytes()
    if what == "no_folder":
        path.unlink()
        folder.rmdir()
    elif what == "no_file":
        path.unlink()
    elif what == "not_begun":
        path.write_bytes(b"")
    elif what == "no_database":
        path.write_bytes(b"voices" * 500)
    elif what == "cut_short":
        path.write_bytes(body[: len(body) // 2])
    elif what == "overwritten":
        path.write_bytes(body[:4096] + b"\xff" * (len(body) - 4096))
    elif what == "short_embedding":
        with sqlite3.connect(path) as database:
            database.execute("UPDATE speakers SET voice = x'00ff00'")
        database.close()
    else:
        with sqlite3.connect(path) as database:
            database.execute(
                {
                    "other_program": "PRAGMA application_id = 5",
                    "later_release": "PRAGMA user_version = 99",
                }[what]
            )
        database.close()


# fmt: off
DAMAGES = [  # what is wrong, what the message must say
    ("no_folder", "folder not found. `speechbrain-attn enroll"),
    ("no_file", "holds no registry. `speechbrain-attn enroll"),
    ("not_begun", "holds no registry. `speechbrain-attn enroll"),
    ("no_database", "registry.sqlite: is damaged .file is not a database"),
    ("cut_short", "registry.sqlite: is damaged .*Put a copy in its place"),
    ("overwritten", "registry.sqlite: is damaged .*malformed"),
    ("short_embedding", "is damaged .an embedding is cut short"),
    ("other_program", "is no registry of version 1; was it made by another"),
    ("later_release", "is no registry of version 1; was it made by another"),
]
# fmt: on


@pytest.mark.parametrize("what, says", DAMAGES, ids=[d[0] for d in DAMAGES])
def test_a_damaged_registry_is_refused(folder, what, says):
    spoil(folder, what)
    with pytest.raises(AttnError, match=says):
        with Registry.open(folder) as registry:
            list(registry.voices())


def test_a_file_killed_before_its_tables_is_made_anew(folder):
    spoil(folder, "not_begun")
    with Registry.create(folder, MODEL, SIZE) as registry:
        assert len(registry) == 0


def test_a_place_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnError, match="file: cannot be written"):
        Registry.create(tmp_path / "file", MODEL, SIZE)
    with pytest.raises(AttnError, match="file: folder not found"):
        Registry.open(tmp_path / "file")


def test_a_writer_that_waits_in_vain_says_so(folder, registry, monkeypatch):
    monkeypatch.setattr(registry_file, "WAIT_S", 0.01)
    with Registry.open(folder) as other, registry._changing():
        with pytest.raises(AttnError, match="another process has been chang"):
            other.remove("anna")
    assert len(registry) == 4


def test_faults_of_ours_stay_what_they_are(registry):
    registry.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        registry.speakers()
