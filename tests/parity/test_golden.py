"""Equal to the authors' programs, and to the equations in exact arithmetic.

``shared/golden`` holds inputs, parameters and expected outputs; its README says
where they come from and gives the tolerances. The table says how each file is
run; a file in no row and a row without a file are failures.
"""

import fnmatch
from typing import NamedTuple

import golden_build as build
import golden_run as run
import pytest
import torch
from golden_files import FILES, SHARED, Golden

pytestmark = pytest.mark.skipif(
    not FILES,
    reason=f"no golden files in {SHARED}; set SPEECHBRAIN_ATTN_SHARED",
)


class Row(NamedTuple):
    """Files of these names, how they are run, what is built."""

    names: str
    run: object
    build: object = None
    quirk: bool = False  # a fault that is not to be reproduced


TABLE = [  # the first row that fits counts
    Row("p2_attention_quirk_*", run.pooling, build.attention, quirk=True),
    Row("p2_attention_*", run.pooling, build.attention),
    Row("p2_varlen_attention", run.pooling, build.attention),
    Row("p2_mha_*", run.pooling, build.multi_head),
    Row("p2_varlen_multiheadattention", run.pooling, build.multi_head),
    Row("p2_dmha_quirk_*", run.pooling, build.double, quirk=True),
    Row("p2_dmha_*", run.pooling, build.double),
    Row("p2_varlen_doublemha", run.pooling, build.double),
    Row("p2_old_attention_*", run.pooling, build.old_attention),
    Row("p2_old_statistical_mha_*", run.pooling, build.old_multi_head),
    Row("p2_old_dmha_*", run.pooling, build.old_double),
    Row("p2_old_statistical_*", run.pooling, build.old_statistics),
    Row("p2_vgg3l_*", run.vgg, build.vgg3),
    Row("p2_varlen_vgg3l", run.vgg, build.vgg3),
    Row("p2_vgg4l_*", run.vgg, build.vgg4),
    Row("p2_varlen_vgg4l", run.vgg, build.vgg4),
    Row("p2_classifier_*", run.double_mha, build.double_mha),
    Row("p2_varlen_embedding", run.double_mha, build.double_mha),
    Row("p2_amsoftmax_*", run.margin_softmax, build.classifier),
    Row("p3_attn_*", run.serial_attention, build.serial_attention),
    Row("p3_ffn_*", run.frame_module, build.feed_forward),
    Row("p3_stack_*", run.stack, build.stack),
    Row("p3_varlen_stack", run.stack, build.stack),
    Row("p3_tdnn_*", run.frame_module, build.tdnn),
    Row("p3_xvector_*", run.serialized_mha, build.serialized_mha),
    Row("p3_varlen_xvector", run.serialized_mha, build.serialized_mha),
    Row("p3_baseline_asp_*", run.pooling, build.zhu_attentive),
    Row("p3_baseline_mhap_*", run.zhu_multi_head, build.zhu_multi_head),
    Row("p3_baseline_stats_*", run.pooling, build.statistics),
    Row("derived_sap_*", run.pooling, build.self_attentive),
    Row("derived_asp_*", run.pooling, build.attentive_statistics),
    Row("derived_mha_*", run.pooling, build.multi_head),
    Row("derived_dmha_*", run.pooling, build.double),
    Row("derived_ge2e_*", run.ge2e),
]


def row_of(name):
    for row in TABLE:
        if fnmatch.fnmatchcase(name, row.names):
            return row
    return None


def names_where(condition):
    found = [(name, row_of(name)) for name in FILES]
    return [name for name, row in found if row and condition(row)]


def tolerances(name, entry, dtype):
    """As the README of the files has them."""
    exact = dtype == torch.float64
    if entry.startswith("grad_") and exact:  # theirs are differences
        return {"atol": 1e-7, "rtol": 1e-5}
    if name.startswith("derived_") and exact:
        return {"atol": 1e-9, "rtol": 1e-8}
    atol = 5e-5 if name.startswith("derived_") else 2e-5
    logits = name.startswith(("p2_classifier", "p2_amsoftmax"))
    logits = logits and entry == "output"
    if (name.endswith(("_peaky", "_large")) or logits) and not exact:
        atol = 2e-4
    if name.endswith("_w200"):
        atol = 2e-3
    return {"atol": atol, "rtol": 1e-4}


def test_the_table_and_the_files_match():
    assert [name for name in FILES if row_of(name) is None] == []
    used = {row_of(name).names for name in FILES}
    assert [row.names for row in TABLE if row.names not in used] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", names_where(lambda row: not row.quirk))
def test_equals_golden(name, dtype):
    golden, row = Golden(name, dtype), row_of(name)
    with torch.no_grad():
        found = row.run(golden, row.build)
    assert sorted(set(golden.expected) - set(found)) == []
    for entry, expected in golden.expected.items():
        value = found[entry]
        if entry != "output_lengths":
            assert value.dtype == dtype, entry
        torch.testing.assert_close(
            # One head: some files have no axis for it.
            value.to(dtype).reshape(expected.shape),
            expected,
            **tolerances(name, entry, dtype),
            msg=lambda text, entry=entry: f"{entry}: {text}",
        )


@pytest.mark.parametrize("name", names_where(lambda row: row.quirk))
def test_faults_are_not_reproduced(name):
    """One frame, or one head, has weight 1 whatever else is in the batch."""
    golden, row = Golden(name, torch.float32), row_of(name)
    with torch.no_grad():
        found = row.run(golden, row.build)
    assert (found["output"] - golden.expected["output"]).abs().max() > 1e-2
    lone = "head_weights" if "head_weights" in golden.expected else "weights"
    assert torch.equal(found[lone], torch.ones_like(found[lone]))
    correct = golden.x.squeeze(1)
    if lone == "head_weights":
        weights = golden.expected["weights"]
        correct = (weights * golden.x).sum(dim=1)
    torch.testing.assert_close(found["output"], correct, atol=2e-5, rtol=1e-4)
