"""The source of a network as one module, for SpeechBrain without this package.

The module is put together from the files that the network's classes come
from, in the order in which they need each other, as they stand.
"""

import ast
import hashlib
import importlib
import inspect
from pathlib import Path

from speechbrain_attn import __version__
from speechbrain_attn.errors import AttnError

PACKAGE = "speechbrain_attn"
_HEADER = '''\
"""A speaker embedding network of speechbrain_attn {version}, in one file.

Generated: the package's own source files one after the other. For SpeechBrain
where the package is not installed; where it is, its own modules are used.

    from speechbrain.inference.interfaces import foreign_class

    model = foreign_class(
        source="the folder of this file or its name on the hub",
        pymodule_file="the name of this file",
        classname="EncoderClassifier",
    )
"""

import importlib
import sys
import types
'''
_FOOTER = '''

# ---- so that hyperparams.yaml finds its classes here

CLASSES = {classes}


def _package_is_here():
    try:
        package = importlib.import_module("speechbrain_attn")
    except ImportError:
        return False
    return not hasattr(package, "STANDS_IN")


def _stand_in():
    """Put this file's classes where the package would have them."""
    for path in CLASSES:
        parts = path.split(".")
        for end in range(1, len(parts)):
            name = ".".join(parts[:end])
            module = sys.modules.setdefault(name, types.ModuleType(name))
            module.STANDS_IN = True
            if end > 1:
                parent = sys.modules[".".join(parts[: end - 1])]
                setattr(parent, parts[end - 1], module)
        setattr(module, parts[-1], globals()[parts[-1]])


if not _package_is_here():
    _stand_in()
'''


def standalone_module(class_names):
    """Source of a module that holds the named classes and all they need.

    Arguments
    ---------
    class_names : iterable of str
        Dotted names, as a YAML has them; those of other packages are left
        out, as they are there for the module to import.

    Returns
    -------
    str

    Raises
    ------
    AttnError
        Two of the files give different things one name, or import in a way
        that cannot be put together.

    Example
    -------
    >>> source = standalone_module(["speechbrain_attn.lobes.features.Fbank"])
    >>> "class Fbank(" in source
    True
    """
    ours = sorted(n for n in class_names if n.startswith(PACKAGE + "."))
    modules, imports = {}, set()
    for name in ours:
        module, _, last = name.rpartition(".")
        _collect(_home(module, last), modules, imports)
    _refuse_collisions(modules)
    lines = [_HEADER.format(version=__version__), *sorted(imports)]
    # Whom the host's foreign_class is asked for.
    lines.append(
        "from speechbrain.inference.classifiers import EncoderClassifier  "
        "# noqa: F401"
    )
    for module, source in modules.items():
        path = module.replace(".", "/") + ".py"
        lines.append(f"\n\n# ---- {path}\n\n{source}")
    classes = "(\n" + "".join(f'    "{name}",\n' for name in ours) + ")"
    return "\n".join(lines) + _FOOTER.format(classes=classes)


def standalone_name(system, source):
    """File name of a module, by its system and the hash of its source.

    Two folders of different source never have modules of one name.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return f"{system}_{digest}.py"


def _home(module, name):
    """The module in which what ``module`` calls ``name`` is written."""
    found = getattr(importlib.import_module(module), name)
    return getattr(found, "__module__", module)


def _collect(module, modules, imports):
    """Add a module's source after that of all modules that it needs.

    ``modules`` maps names to sources without imports and docstring;
    ``imports`` are the lines that import from other packages.
    """
    if module in modules:
        return
    text = Path(inspect.getsourcefile(importlib.import_module(module)))
    text = text.read_text(encoding="utf-8")
    lines = text.splitlines()
    body = ast.parse(text).body
    if body and ast.get_docstring(ast.parse(text)) is not None:
        _blank(lines, body.pop(0))
    for node in body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        _blank(lines, node)
        if PACKAGE not in ast.unparse(node).split()[1].split("."):
            imports.add(ast.unparse(node))
            continue
        if isinstance(node, ast.Import) or any(a.asname for a in node.names):
            raise AttnError(
                f"{module} line {node.lineno}: {ast.unparse(node)} cannot be "
                "put into one file; import names as they are called."
            )
        for alias in node.names:
            _collect(_home(node.module, alias.name), modules, imports)
    modules[module] = "\n".join(lines).strip()


def _blank(lines, node):
    """Empty the lines of a statement, which stands alone on them."""
    for number in range(node.lineno - 1, node.end_lineno):
        lines[number] = ""


def _refuse_collisions(modules):
    """Raise where two modules define one name at their top level."""
    owners = {}
    for module, source in modules.items():
        for name in _defined(ast.parse(source)):
            other = owners.setdefault(name, module)
            if other != module:
                raise AttnError(
                    f"{name} is defined in {other} and in {module}, which "
                    "cannot be put into one file; rename one of them."
                )


def _defined(tree):
    """Names that statements at the top level of a module define."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        yield part.id
