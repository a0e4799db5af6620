"""Runs a training function on workers of Ray Train, which are started again if one of them dies."""

from collections.abc import Callable
from pathlib import Path

from storyreel.stages.errors import InputError
from storyreel.training.motion.config import WorkersConfig


def train_on_ray(train: Callable[[], None], workers: WorkersConfig, work: Path) -> None:
    """Call `train` in every worker; a process group of PyTorch joins them.

    Ray must be connected.

    Args:
        train: goes on from its own checkpoint when it is called again.
        workers: how many, with what, and how often they may be started again.
        work: folder that all workers see; Ray Train keeps files of its own in it.

    Raises:
        InputError: the packages of Ray Train are not installed.
        ray.train.TrainingFailedError: with the error of a worker, after the last attempt.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise InputError(f"{error} With Storyreel: pip install 'storyreel[train]'") from error
    resources = {"CPU": workers.num_cpus} | ({"GPU": workers.num_gpus} if workers.num_gpus else {})
    trainer = TorchTrainer(
        train,
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.num_gpus > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(work.resolve()),
            failure_config=FailureConfig(max_failures=workers.max_failures),
        ),
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
    )
    trainer.fit()
