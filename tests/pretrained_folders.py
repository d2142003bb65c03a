"""Small models of SpeechBrain's networks, in folders as it fetches them."""

from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder

NETWORKS = {
    "ecapa": """!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [8, 8, 8, 8, 24]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 4
    res2net_scale: 2
    se_channels: 4
    lin_neurons: 6""",
    "resnet": """!new:speechbrain.lobes.models.ResNet.ResNet
    input_size: !ref <n_mels>
    channels: [4, 4, 4, 8]
    block_sizes: [1, 1, 1, 1]
    lin_neurons: 6""",
    "xvector": """!new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    tdnn_channels: [8, 8, 8, 8, 24]
    lin_neurons: 6""",
}
YAML = """\
n_mels: 24
pretrained_path: someone/{name}
sample_rate: {rate}
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: {network}
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 6
    out_neurons: 3
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


def write_host_folder(folder, name="ecapa", rate=16000):
    """Write a folder as SpeechBrain's ``from_hparams`` leaves it.

    The paths of its YAML are of the hub; its files are called after what is
    loaded; the statistics are those of an earlier version of the host.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    path = folder / "hyperparams.yaml"
    path.write_text(YAML.format(name=name, rate=rate, network=NETWORKS[name]))
    torch.manual_seed(5)
    with open(path) as file:
        hparams = load_hyperpyyaml(file)
    network = hparams["embedding_model"]
    for _ in range(3):  # moves the batch norm
        network(torch.randn(16, 50, 24))
    for part in ("embedding_model", "classifier"):
        torch.save(hparams[part].state_dict(), folder / f"{part}.ckpt")
    statistics = {
        "count": 9,
        "glob_mean": torch.randn(6),
        "glob_std": torch.ones(6),
        "spk_dict_mean": {},
        "spk_dict_std": {},
        "spk_dict_count": {},
    }
    torch.save(statistics, folder / "mean_var_norm_emb.ckpt")
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["anna", "ben", "carla"])
    encoder.save(folder / "label_encoder.ckpt")
    return folder
