"""What a training took from a pretrained model, and what not: a line each."""

# Why a training has no use for them.
_LEFT_OUT = {
    "classifier": "it tells the model's own speakers apart",
    "mean_var_norm_emb": "the mean is taken anew, from this training's files",
}


def by_module(state):
    """Values of a state dict as {module: {name: value}}.

    Example
    -------
    >>> by_module({"a.b.weight": 1, "a.b.bias": 2, "query": 3})
    {'a.b': {'weight': 1, 'bias': 2}, '': {'query': 3}}
    """
    modules = {}
    for key, value in state.items():
        module, _, name = key.rpartition(".")
        modules.setdefault(module, {})[name] = value
    return modules


def lines_of_network(network, loaded, reasons):
    """A line for what was filled of each child, and one for what was not.

    Arguments
    ---------
    network : torch.nn.Module
        Of the training.
    loaded : list of str
        Names of its modules that were filled.
    reasons : dict
        Why the others were not, by name.
    """
    values = by_module(network.state_dict())
    lines = []
    for child, module in network.named_children():
        filled = [name for name in loaded if _within(name, child)]
        new = [name for name in reasons if _within(name, child)]
        kind = type(module).__name__
        if filled:
            lines.append(f"{child}, {kind}: loaded, {_counts(filled, values)}")
        if new:
            # Of a child that is new altogether one reason says it all.
            where = f"{new[0]}: " if filled else ""
            lines.append(
                f"{child}, {kind}: new, {_counts(new, values)} "
                f"({where}{reasons[new[0]]})"
            )
    return lines


def lines_of_model(modules, taken):
    """A line for each part of a model of which values were left out.

    Arguments
    ---------
    modules : torch.nn.ModuleDict
        Of the model.
    taken : set of int
        Where the values that were used lie in memory (``data_ptr``).
    """
    network = modules["embedding_model"]
    values = {
        name: own
        for name, own in by_module(network.state_dict()).items()
        if not any(value.data_ptr() in taken for value in own.values())
    }
    lines = []
    for child, module in network.named_children():
        left = [name for name in values if _within(name, child)]
        if left:
            lines.append(
                f"{child} of the model, {type(module).__name__}: left out, "
                f"{_counts(left, values)} (it has no place in the network)"
            )
    for name, reason in _LEFT_OUT.items():
        if name in modules:
            lines.append(f"{name} of the model: left out ({reason})")
    return lines


def _within(name, child):
    return name == child or name.startswith(f"{child}.")


def _counts(names, values):
    """How many modules, and numbers in them."""
    total = sum(v.numel() for name in names for v in values[name].values())
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} module{plural} of {total:,} values"
