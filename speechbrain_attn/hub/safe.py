"""The YAML of a model, built without running what it may name.

To the host a YAML is code: ``!apply:os.system`` runs while it loads, and so
does a quoted string like ``"(!!python/object/apply:os.system [ls])"``. Here
the YAML is read first, and only classes of networks and features are built.
"""

import ast
import functools
import importlib
import re

import ruamel.yaml
from hyperpyyaml import resolve_references
from ruamel.yaml.error import YAMLError
from torch import nn

from speechbrain_attn.errors import AttnError

# Modules and what lies below them; of a class, both the module that the YAML
# names and the one that it comes from must be among them.
ALLOWED_MODULES = (
    "speechbrain_attn.lobes.features",
    "speechbrain_attn.lobes.models",
    "speechbrain_attn.nnet",
    "speechbrain.lobes.features",
    "speechbrain.lobes.models.ECAPA_TDNN",
    "speechbrain.lobes.models.ResNet",
    "speechbrain.lobes.models.Xvector",
    "speechbrain.processing.features",
    "torch.nn",
)
# Classes that are no torch modules.
ALLOWED_CLASSES = (
    "speechbrain.dataio.encoder.CategoricalEncoder",
    "speechbrain.dataio.preprocess.AudioNormalizer",
    "speechbrain.utils.parameter_transfer.Pretrainer",
)
# A YAML of a few aliases can stand for billions of nodes, and a text of a few
# references for billions of characters.
MAX_NODES = 20_000
MAX_TEXT = 1000
_PLAIN = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
}
_TUPLE = re.compile(r"\(.*\)", re.DOTALL)
_REFERENCE = re.compile(r"<[^>]*>")  # as the host finds them in a text


def load_safe_hparams(path):
    """Build what a YAML file describes, unless it names something else.

    References are resolved as HyperPyYAML does, but for powers and products of
    texts, which can take all time and memory. ``!new:`` and ``!name:`` must
    name a torch module of ``ALLOWED_MODULES`` or one of ``ALLOWED_CLASSES``;
    no other tag but ``!ref`` is let in.

    Arguments
    ---------
    path : str or Path
        A ``hyperparams.yaml``.

    Returns
    -------
    dict

    Raises
    ------
    AttnError
        A tag or value that is refused, with its line; a file that is no YAML;
        a class that cannot be built as the file has it.
    """
    path = str(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        _check(text)
        # Strings put together by references may look like a tuple, or name
        # what the file itself does not: the builder looks at each again.
        return _Builder(resolve_references(text).getvalue()).get_single_data()
    except _Refused as refused:
        raise AttnError(
            f"{path}{refused.place}: {refused.what}. Nothing was built or "
            "run. If you trust whoever made this model as you trust their "
            "programs, load it with trust=True (--trust)."
        ) from None
    except AttnError as error:
        raise AttnError(f"{path}: {error}") from error
    except (
        YAMLError,
        OSError,
        ValueError,
        TypeError,
        MemoryError,  # of Python's parser, at deep brackets
        RecursionError,
        AttributeError,  # of the host, at a reference that is a list
    ) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise AttnError(f"{path}: cannot be read ({reason}).") from None


def allowed_class(name):
    """The class of a dotted name; an AttnError says why it is not allowed.

    Example
    -------
    >>> allowed_class("torch.nn.ReLU")
    <class 'torch.nn.modules.activation.ReLU'>
    """
    module, _, last = name.rpartition(".")
    if name not in ALLOWED_CLASSES and not _is_allowed(module):
        raise AttnError("is not among what a speaker model is built of")
    try:
        # Only modules are walked through, never attributes: that is how
        # speechbrain.lobes.features.os.system would leave the list.
        found = vars(importlib.import_module(module)).get(last)
    except ImportError:
        raise AttnError(
            f"cannot be found: there is no module {module}"
        ) from None
    if name in ALLOWED_CLASSES:
        return found
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise AttnError(f"is no torch module: {module} has no class {last}")
    if not _is_allowed(found.__module__):
        raise AttnError(f"comes from {found.__module__}, which is not allowed")
    return found


def _is_allowed(module):
    return any(
        module == allowed or module.startswith(allowed + ".")
        for allowed in ALLOWED_MODULES
    )


class _Refused(Exception):
    """What is refused, and where it stands."""

    def __init__(self, what, place=""):
        super().__init__(what)
        self.what = what
        self.place = place


def _check(text):
    """Refuse any node of a YAML text that is not allowed."""
    if re.search("^%YAML", text, re.MULTILINE):
        raise AttnError("has a %YAML line, which is not read; remove it.")
    root = _Builder(text).get_single_node()
    if not isinstance(root, ruamel.yaml.MappingNode):
        raise _Refused("holds no keys")
    nodes, seen, lengths = [root], 0, {}
    while nodes:
        node = nodes.pop()
        seen += 1
        if seen > MAX_NODES:
            raise _Refused(
                f"its references and aliases expand to over {MAX_NODES} nodes"
            )
        try:
            _check_node(node)
            if str(node.tag) == "!ref" and _is_text(node):
                _resolved_length(node, root, lengths)
                nodes += _whole_target(node, root)
        except _Refused as refused:
            refused.place = f" line {node.start_mark.line + 1}"
            raise
        if isinstance(node, ruamel.yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
        elif isinstance(node, ruamel.yaml.SequenceNode):
            nodes += node.value


def _check_node(node):
    """Refuse a node by its tag or its text."""
    tag = str(node.tag)
    kind, _, name = tag.partition(":")
    if kind in ("!new", "!name"):
        _class_of(tag, name)
    elif kind == "!include":
        raise _Refused(f"{tag}: a model folder includes no other file")
    elif tag == "!PLACEHOLDER":
        raise _Refused("!PLACEHOLDER: a value is missing")
    elif tag not in _PLAIN and tag not in ("!tuple", "!ref"):
        raise _Refused(f"{tag}: a tag that no speaker model needs")
    if _is_text(node):
        _literal(node.value)


def _resolved_length(node, root, lengths):
    """Characters of a scalar whose references are resolved.

    Refuses what the host would compute or repeat without end: texts longer
    than ``MAX_TEXT``, powers, products and formats of texts. ``lengths`` keeps
    those of nodes that were met, None while they are under way.
    """
    if id(node) in lengths:
        if lengths[id(node)] is None:
            raise _Refused(f"{node.value[:60]}: refers to itself")
        return lengths[id(node)]
    lengths[id(node)] = None
    text = node.value
    names = _REFERENCE.findall(text)
    # The host turns <object.attribute> into a call of getattr.
    if any("." in name for name in names):
        raise _Refused(f"!ref {text[:60]}: names an attribute")
    if names == [text]:
        targets = filter(_is_text, _whole_target(node, root))
        length = sum(_resolved_length(one, root, lengths) for one in targets)
    else:
        found = [_target(name, root) for name in names]
        length = _joined_length(text, found, root, lengths)
    lengths[id(node)] = length
    return length


def _whole_target(node, root):
    """What a scalar stands for if it is one reference: [node], else []."""
    if not _REFERENCE.fullmatch(node.value):
        return []
    target = _target(node.value, root)
    return [] if target is None else [target]


def _joined_length(text, found, root, lengths):
    """The same of a text with values in it, which may be a calculation."""
    rest = _REFERENCE.sub("", text)
    # The host joins first and looks then, so that no part of an operator, of
    # a quoted text or of a reference may come from a value.
    if found and (
        "**" in rest or text[0] == "*" or text[-1] == "*" or _marks(rest)
    ):
        raise _Refused(
            f"{text[:60]}: computes with powers or texts; write the value"
        )
    length = len(rest)
    for target in found:
        if not _is_text(target):
            raise _Refused(f"{text[:60]}: refers to what is no plain value")
        value = target.value
        if not _REFERENCE.search(value) and (
            not value or "*" in value or _marks(value)
        ):
            raise _Refused(
                f"{text[:60]}: refers to {value[:60]!r}, which may be part of "
                "a calculation; write the value"
            )
        length += _resolved_length(target, root, lengths)
    if length > MAX_TEXT:
        raise _Refused(f"{text[:60]}: stands for over {MAX_TEXT} characters")
    return length


def _marks(text):
    return re.search("[<>'\"]", text)


def _target(name, root):
    """Node that a reference names, as the host looks it up; None without."""
    node = root
    for part in name.strip("<>").split("["):
        pairs = node.value if isinstance(node, ruamel.yaml.MappingNode) else ()
        named = {key.value: value for key, value in pairs if _is_text(key)}
        if part.strip("]") not in named:
            if "<<" in named:
                raise _Refused(f"{name}: may name a key that is merged in")
            return None
        node = named[part.strip("]")]
    return node


def _is_text(node):
    return isinstance(node, ruamel.yaml.ScalarNode)


def _class_of(tag, name):
    try:
        return allowed_class(name)
    except AttnError as error:
        raise _Refused(f"{tag}: {error}") from None


def _literal(text):
    """A tuple for text in round brackets, else the text itself.

    The host reads such text, quoted or not, with a loader that runs code.
    """
    if not _TUPLE.fullmatch(text):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise _Refused(f"{text[:60]}: is no tuple of plain values") from None
    # One value in brackets is a tuple to the host, a number to Python.
    return value if isinstance(value, tuple) else (value,)


class _Builder(ruamel.yaml.SafeLoader):
    """Builds plain values and allowed classes, nothing else."""

    def construct_object(self, node, deep=True):
        # Deep, so that a class never gets a list that is filled later.
        return super().construct_object(node, deep=True)

    def tuple_or_text(self, node):
        """Value of a scalar that is, or may be, text."""
        return _literal(self.construct_scalar(node))

    def new(self, name, node):
        """Instance of an allowed class."""
        args, kwargs = self.arguments_of(node)
        cls = _class_of(f"!new:{name}", name)
        try:
            return cls(*args, **kwargs)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise AttnError(
                f"!new:{name} cannot be built ({type(error).__name__}: "
                f"{reason}). Is the model of another version?"
            ) from error

    def name(self, name, node):
        """An allowed class itself, with arguments where there are some."""
        args, kwargs = self.arguments_of(node)
        cls = _class_of(f"!name:{name}", name)
        return (
            functools.partial(cls, *args, **kwargs) if args or kwargs else cls
        )

    def arguments_of(self, node):
        """Arguments of the class that a node's tag names."""
        if isinstance(node, ruamel.yaml.MappingNode):
            return [], self.construct_mapping(node, deep=True)
        if isinstance(node, ruamel.yaml.SequenceNode):
            return self.construct_sequence(node, deep=True), {}
        return [], {}

    def refuse(self, node):
        """End here, at a tag that only the resolved text has."""
        raise _Refused(f"{node.tag}: a tag that no speaker model needs")


_Builder.add_constructor("tag:yaml.org,2002:str", _Builder.tuple_or_text)
_Builder.add_constructor("!tuple", _Builder.tuple_or_text)
_Builder.add_multi_constructor("!new:", _Builder.new)
_Builder.add_multi_constructor("!name:", _Builder.name)
_Builder.add_constructor(None, _Builder.refuse)
