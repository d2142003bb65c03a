"""Stands in for SpeechBrain's own training and cosine scripts in tests.

    python host_stand_in.py train HPARAMS [--overrides]
    python host_stand_in.py verify HPARAMS [--overrides]

Reads from the YAML what those scripts read, calls it as they do (features of
unpadded batches, no lengths to the network while training), and so fails with
a KeyError or AttributeError where they would. Prints the keys that it read.
"""

import json
import os
import shutil
import sys

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio import audio_io
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.metric_stats import EER

RECIPE = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../recipes/VoxCeleb"
)
sys.path.insert(0, RECIPE)

from voxceleb_prepare import prepare_voxceleb  # noqa: E402


class Recorded(dict):
    """A dict that notes the keys that are read, as items or attributes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def __getattr__(self, key):
        if key not in self:
            raise AttributeError(key)
        return self[key]


class HostBrain(sb.Brain):
    """Calls the objects of a training YAML as the host's script does."""

    def compute_forward(self, batch, stage):
        wavs, lengths = batch.to(self.device).sig
        if stage == sb.Stage.TRAIN and hasattr(self.hparams, "wav_augment"):
            wavs, lengths = self.hparams.wav_augment(wavs, lengths)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lengths)
        return self.modules.classifier(
            self.modules.embedding_model(feats)
        ), lengths

    def compute_objectives(self, predictions, batch, stage):
        predictions, lengths = predictions
        speakers, _ = batch.spk_id_encoded
        if stage == sb.Stage.TRAIN and hasattr(self.hparams, "wav_augment"):
            speakers = self.hparams.wav_augment.replicate_labels(speakers)
        loss = self.hparams.compute_cost(predictions, speakers, lengths)
        if stage != sb.Stage.TRAIN:
            self.errors.append(batch.id, predictions, speakers, lengths)
        elif hasattr(self.hparams.lr_annealing, "on_batch_end"):
            self.hparams.lr_annealing.on_batch_end(self.optimizer)
        return loss

    def on_stage_start(self, stage, epoch=None):
        if stage != sb.Stage.TRAIN:
            self.errors = self.hparams.error_stats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            return
        error = self.errors.summarize("average")
        old_lr, new_lr = self.hparams.lr_annealing(epoch)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": old_lr},
            self.train_stats,
            {"loss": stage_loss, "ErrorRate": error},
        )
        self.checkpointer.save_and_keep_only(
            meta={"ErrorRate": error}, min_keys=["ErrorRate"]
        )


def prepare(hparams, splits, seg_dur):
    """The trial list copied and the manifests written; path of the copy."""
    source, folder = hparams["verification_file"], hparams["save_folder"]
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, os.path.basename(source))
    shutil.copyfile(source, copy)
    prepare_voxceleb(
        data_folder=hparams["data_folder"],
        save_folder=folder,
        verification_pairs_file=copy,
        splits=splits,
        split_ratio=hparams["split_ratio"],
        seg_dur=seg_dur,
        skip_prep=hparams["skip_prep"],
    )
    return copy


def rows(hparams, key, read):
    """Dataset of a manifest whose ``sig`` comes from ``read``."""
    data = DynamicItemDataset.from_csv(
        hparams[key], {"data_root": hparams["data_folder"]}
    )
    data.add_dynamic_item(read, ("wav", "start", "stop", "duration"), ("sig",))
    data.set_output_keys(["id", "sig"])
    return data


def read_chunk(wav, start, stop, duration):
    """Samples ``start`` to ``stop``, both strings, as the CSV has them."""
    length = int(stop) - int(start)
    signal, _ = audio_io.load(wav, num_frames=length, frame_offset=int(start))
    return signal.transpose(0, 1).squeeze(1)


def train(hparams, hparams_file, overrides, run_opts):
    """As train_speaker_embeddings.py of the host."""
    prepare(hparams, ["train", "dev"], hparams["sentence_len"])
    hparams["prepare_noise_data"]()
    hparams["prepare_rir_data"]()
    crop = int(hparams["sample_rate"] * hparams["sentence_len"])

    def read(wav, start, stop, duration):
        if hparams["random_chunk"]:
            spare = int(duration * hparams["sample_rate"]) - crop
            start = int(torch.randint(spare + 1, ()))
            stop = start + crop
        return read_chunk(wav, start, stop, duration)

    train_data = rows(hparams, "train_annotation", read)
    valid_data = rows(hparams, "valid_annotation", read)
    encoder = CategoricalEncoder()
    for data in (train_data, valid_data):
        data.add_dynamic_item(
            lambda speaker: encoder.encode_sequence_torch([speaker]),
            ("spk_id",),
            ("spk_id_encoded",),
        )
    encoder.load_or_create(
        path=os.path.join(hparams["save_folder"], "label_encoder.txt"),
        from_didatasets=[train_data],
        output_key="spk_id",
    )
    for data in (train_data, valid_data):
        data.set_output_keys(["id", "sig", "spk_id_encoded"])
    sb.create_experiment_directory(
        hparams["output_folder"], hparams_file, overrides
    )
    brain = HostBrain(
        hparams["modules"],
        hparams["opt_class"],
        hparams,
        run_opts,
        hparams["checkpointer"],
    )
    brain.hparams = hparams  # attributes are recorded too
    brain.fit(
        hparams.epoch_counter,
        train_data,
        valid_data,
        train_loader_kwargs=hparams["dataloader_options"],
        valid_loader_kwargs=hparams["dataloader_options"],
    )


def verify(hparams, hparams_file, overrides, run_opts):
    """As speaker_verification_cosine.py of the host, without score norm."""
    trials = prepare(hparams, ["train", "dev", "test"], 3.0)
    rows(hparams, "train_data", read_chunk).filtered_sorted(
        sort_key="duration", select_n=hparams["n_train_snts"]
    )
    dict(hparams["train_dataloader_opts"])
    hparams["pretrainer"].collect_files()
    hparams["pretrainer"].load_collected()
    hparams["embedding_model"].eval()
    sides = []
    for side in ("enrol", "test"):
        data = rows(hparams, f"{side}_data", read_chunk)
        data = data.filtered_sorted(sort_key="duration")
        options = hparams[f"{side}_dataloader_opts"]
        sides.append(embed(hparams, make_dataloader(data, **options)))
    scores = {"0": [], "1": []}
    os.makedirs(hparams["output_folder"], exist_ok=True)
    path = os.path.join(hparams["output_folder"], "scores.txt")
    with open(trials) as lines, open(path, "w") as file:
        for line in lines:
            label, *pair = line.split()
            ids = [name.split(".")[0] for name in pair]
            score = torch.cosine_similarity(
                *(side[name] for side, name in zip(sides, ids, strict=True)),
                dim=-1,
            )
            scores[label].append(score)
            print(*ids, label, f"{float(score):f}", file=file)
    print(EER(torch.stack(scores["1"]), torch.stack(scores["0"])))


@torch.no_grad()
def embed(hparams, loader):
    """Utterance id -> embedding."""
    embeddings = {}
    for batch in loader:
        wavs, lengths = batch.sig
        feats = hparams["compute_features"](wavs)
        feats = hparams["mean_var_norm"](feats, lengths)
        batch_embeddings = hparams["embedding_model"](feats, lengths).squeeze(1)
        embeddings.update(zip(batch.id, batch_embeddings, strict=True))
    return embeddings


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[2:])
    with open(hparams_file) as file:
        hparams = Recorded(load_hyperpyyaml(file, overrides))
    script = {"train": train, "verify": verify}[sys.argv[1]]
    script(hparams, hparams_file, overrides, run_opts)
    print("keys read:", json.dumps(sorted(hparams.read)), file=sys.stderr)
