"""Several training processes, really started."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from storyreel.training import parallel
from storyreel.training.checkpoints import Trainer
from storyreel.training.config import StageConfig

torch.set_num_threads(1)
torch.manual_seed(0)
parallel.join("cpu")
config = StageConfig(num_steps=3, batch_size=1, learning_rate=0.1, checkpoint_every=3)
modules = nn.ModuleDict({"line": nn.Linear(4, 1), "unused": nn.Linear(4, 1)})
folder = Path(sys.argv[1])

def batch_loss(generator):
    line = modules["line" if parallel.rank() == 0 else "unused"]
    return line(torch.randn(2, 4, generator=generator)).float().square().mean()

parallel.make_once(folder / "made", lambda path: path.write_text(str(parallel.rank())))
trainer = Trainer(modules, config, folder / "checkpoint.safetensors", seed=1)
trainer.run(batch_loss)
from safetensors.torch import save_file
weights = {k: v.clone() for k, v in modules.state_dict().items()}
save_file(weights, folder / f"{parallel.rank()}.safetensors")
"""


@pytest.mark.slow
def test_all_processes_take_the_same_steps_on_their_own_batches(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, "--standalone", str(script), str(tmp_path)],
        check=True,
        env={"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        timeout=120,
    )
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for name, weight in first.items():
        assert weight.equal(second[name]), f"{name} went apart"
    assert (tmp_path / "made").read_text() == "0"
    assert (tmp_path / "checkpoint.safetensors").exists()
