"""Training on several processes: all of them have the same state."""

import subprocess
import sys

# Trains batch norm alone, and prints the mean that it has seen.
SCRIPT = """\
import atexit
import sys
import speechbrain as sb
import torch
from speechbrain_attn.dataio.epochs import EpochBatchSampler
from speechbrain_attn.processes import end_process
from speechbrain_attn.training.brain import ResumableBrain

class Brain(ResumableBrain):
    def compute_forward(self, batch, stage):
        return self.modules.norm(batch)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().sum()

sb.utils.distributed.ddp_init_group({"distributed_backend": "gloo"})
rank = torch.distributed.get_rank()
norm = torch.nn.BatchNorm1d(1, momentum=None)  # the plain mean of its batches
modules = {"norm": norm, "other": torch.nn.Identity()}
brain = Brain(
    modules=modules,
    opt_class=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    hparams={"seed": 1, "modules": modules},
    run_opts={"device": "cpu", "distributed_backend": "gloo",
        "noprogressbar": True, "distributed_launch": True},
    checkpointer=sb.utils.checkpoints.Checkpointer(sys.argv[1]),
)
sampler = EpochBatchSampler(24, 4, seed=1, rank=rank, world_size=2)
data = torch.arange(24.0).unsqueeze(1)
brain.fit([1], data, train_loader_kwargs={"batch_sampler": sampler})
said = norm.running_mean.item(), norm.running_var.item()
# In one piece, so that the lines of two processes do not mix.
sys.stdout.write("means %r %r\\n" % said)
atexit.register(sys.stdout.write, "exit function\\n")
end_process()
raise SystemExit("a process that goes on after its end")
"""


def test_all_processes_have_the_mean_of_all_running_statistics(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node=2", script, tmp_path / "save"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    said = [line for line in done.stdout.splitlines() if "means" in line]
    assert len(said) == 2 and said[0] == said[1], done.stdout
    assert float(said[0].split()[1]) == 11.5
    assert done.stdout.count("exit function") == 2
