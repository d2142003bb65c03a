"""How the golden files are run.

Each function takes a file and a builder to {entry: tensor}, in the layout of
the file. Entries that the file does not have may be among them.
"""

import torch
from torch import nn

from speechbrain_attn.hub.official import load_official
from speechbrain_attn.lobes.models.heads import DoubleMHAHead, SerializedMHAHead
from speechbrain_attn.nnet.losses import AdditiveMarginSoftmax, ge2e_loss
from speechbrain_attn.nnet.moments import weighted_moments
from speechbrain_attn.nnet.pooling import (
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
    SelfAttentivePooling,
)

# Poolings


def pooling(golden, build):
    pool = golden.load(build(golden))
    x, lengths = golden.x, golden.lengths
    attention = pool.attention(x, lengths)
    layout = attention if golden.channels_first else attention.transpose(1, 2)
    found = {"output": pool(x, lengths), "weights": layout}
    if isinstance(pool, MultiHeadAttentionPooling):
        found["head_contexts"] = pool.contexts(x, lengths)
    if isinstance(pool, DoubleMultiHeadAttentionPooling):
        found["head_weights"] = pool.head_attention(x, lengths)
    if isinstance(pool, SelfAttentivePooling):
        found["mean"], found["std"] = weighted_moments(x, attention, pool.eps)
        found["penalty"] = torch.stack(
            [pool.penalty(one.unsqueeze(0)) for one in attention]
        )
    return found


def zhu_multi_head(golden, build):
    """Zhu's baseline has all means, then all deviations; ours goes by heads."""
    found = pooling(golden, build)
    by_head = found["output"].unflatten(1, (golden.args["num_head"], 2, -1))
    return {**found, "output": by_head.transpose(1, 2).flatten(1)}


# Double multi-head attention: front end, network, loss


def vgg(golden, build):
    encoder = golden.load(build(golden))
    output = encoder(golden.x, golden.lengths)
    if golden.lengths is None:
        return {"output": output}
    lengths = encoder.output_lengths(golden.lengths, golden.x.shape[1])
    return {"output": output, "output_lengths": lengths * output.shape[1]}


def double_mha(golden, build):
    args = golden.args
    head = DoubleMHAHead(args["embedding_size"], args["num_spkrs"])
    lobe = golden.load(build(golden), head)
    embedding = lobe(golden.x, golden.lengths)
    if golden.labels is None:
        return {"output": embedding.squeeze(1)}
    loss = AdditiveMarginSoftmax(
        args["scalingFactor"], args["marginFactor"], args["annealing"]
    )
    loss.step.fill_(int(golden.arrays["step"]))
    cosines = head(embedding).squeeze(1)
    frames, _ = lobe.encode(golden.x)
    return {
        "frontend": frames,
        "pooled": lobe.pooling(frames),
        "embedding": embedding.squeeze(1),
        "cosines": cosines,
        "output": loss.logits(cosines, golden.labels),
    }


def margin_softmax(golden, build):
    args = golden.args
    classifier = golden.load(build(golden))
    loss = AdditiveMarginSoftmax(args["s"], args["m"], args["annealing"])
    loss.step.fill_(args["step"])
    cosines = classifier(golden.x.unsqueeze(1))
    return {
        "cosines": cosines.squeeze(1),
        "output": loss.logits(cosines.squeeze(1), golden.labels),
        "loss": loss(cosines, golden.labels.unsqueeze(1)),
    }


# Serialized attention: modules, stack, trunk, network


def serial_attention(golden, build):
    module = golden.load(build(golden))
    head, output = module(golden.x)
    weights, _ = module.attention(golden.x, None)
    return {"head": head, "output": output, "weights": weights}


def frame_module(golden, build):
    """A module from frames to frames, stored channels first."""
    return {"output": golden.load(build(golden))(golden.x).transpose(1, 2)}


def stack(golden, build):
    """Layer by layer, and as a pooling without what its last need not do."""
    pruned = build(golden, prune_last=True).to(golden.dtype).eval()
    unused = load_official(pruned, golden.state)
    last = len(pruned.heads) - 1
    assert {f"att.{last}.fcq.weight", f"ffw.{last}.w_1.weight"} <= set(unused)
    embedding = pruned(golden.x, golden.lengths)

    whole = golden.load(build(golden))
    mask = golden.mask()
    presence = None if mask is None else mask.to(golden.dtype)
    frames, heads = golden.x, []
    for attend, feed_forward in zip(
        whole.heads, whole.feed_forwards, strict=True
    ):
        head, frames = attend(frames, presence)
        heads.append(head)
        frames = feed_forward(frames)

    # Behind the stack; in our house this norm belongs to the classifier.
    moments = [
        torch.from_numpy(golden.state[f"batchnorm.running_{moment}"])
        for moment in ("mean", "var")
    ]
    return {
        "embedding": embedding,
        "output": nn.functional.batch_norm(
            embedding.relu(), *(moment.to(golden.dtype) for moment in moments)
        ),
        "heads": torch.stack(heads, dim=1),
        "last_frames": frames.transpose(1, 2),
        "weights": whole.attention(golden.x, golden.lengths),
    }


def serialized_mha(golden, build):
    args = golden.args
    head = SerializedMHAHead(
        args["attn_dim"], args["num_targets"], args["segment_dim"]
    )
    lobe = golden.load(build(golden), head)
    frames, _ = lobe.encode(golden.x, golden.lengths)
    embedding = lobe(golden.x, golden.lengths)
    segment = head.segment(embedding.squeeze(1))
    found = {
        "trunk": frames.transpose(1, 2),
        "embedding": embedding.squeeze(1),
        "segment": segment,
    }
    if golden.labels is None:
        return {**found, "output": segment}
    logp = head(embedding).squeeze(1)
    return {
        **found,
        "output": head.speakers(segment),
        "loss": nn.functional.nll_loss(logp, golden.labels),
    }


# GE2E


@torch.enable_grad()
def ge2e(golden, build):
    inputs = {"input": golden.x.clone()} | {
        name: torch.tensor(golden.arrays[name], dtype=golden.dtype)
        for name in ("w", "b")
    }
    x, w, b = (one.requires_grad_() for one in inputs.values())
    found = {}
    for variant in ("softmax", "contrast"):
        for reduction in ("sum", "mean"):
            loss = ge2e_loss(x, w, b, variant, reduction)
            found[f"{reduction}_{variant}"] = loss
        gradients = torch.autograd.grad(loss, (x, w, b))
        for name, gradient in zip(inputs, gradients, strict=True):
            found[f"grad_{name}_{variant}"] = gradient
        found[f"loss_{variant}"] = ge2e_loss(x, w, b, variant, "none")
    return found
