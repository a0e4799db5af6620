"""Settings that name pretrained weights; importing this module loads no model library."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

import storyreel
from storyreel.stages.output.storage import checksum
from storyreel.stages.settings import Settings

PACKAGE_ROOT = Path(storyreel.__file__).resolve().parent
"""The package; it contains the bundled `models/` and `configs/`."""


UNSAFE = frozenset(
    {".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".py"}
)
"""Ends of the names of files that can run code when they are loaded."""


class PartConfig(Settings):
    """The location of a model beside the text-to-image pipeline."""

    path: str | None = None
    """A bundled folder, a local folder, or a repository of the hub; default: the model's."""
    subfolder: str | None = None
    """Folder of the part below `path`."""
    revision: str | None = None
    """Commit of a hub repository of its own."""
    variant: str | None = None
    """Variant of the weight files, such as "fp16"."""


class LoRAConfig(Settings):
    """Low-rank changes of a model's weights (LoRA, arXiv 2106.09685), added when it is loaded."""

    path: str
    """A bundled folder, a local folder, or a repository of the hub."""
    subfolder: str | None = None
    """Folder of the file below `path`."""
    weight_name: str = Field(pattern=r"\.safetensors$")
    """The file, of diffusers, peft or kohya; it must belong to the family of the UNet."""
    revision: str | None = None
    """Commit of a hub repository."""
    weight: float = Field(default=1.0, ge=-4, le=4)
    """How much of it is added."""


class ModelConfig(Settings):
    """The location of pretrained weights, their number format and their device."""

    path: str = "models/pocket"
    """A bundled folder, a local folder, or a repository of the hub."""
    revision: str | None = None
    """Commit of a hub repository; pin it, so that a job's nights render alike."""
    variant: str | None = None
    """Variant of the weight files, such as "fp16"."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights on the worker."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the weights are held."""
    vae: PartConfig | None = None
    """Another VAE of the same family, such as SDXL's for float16; default: the model's own."""
    loras: tuple[LoRAConfig, ...] = ()
    """Added one after the other."""

    @model_validator(mode="after")
    def _another_vae_has_a_place(self) -> "ModelConfig":
        if self.vae is not None and self.vae.path is None and self.vae.subfolder is None:
            raise ValueError("vae: needs a path, or a subfolder of the model")
        return self


class SchedulerConfig(Settings):
    """The sampler; all are deterministic. The noise schedule itself comes from the model."""

    name: Literal["ddim", "dpmsolver++", "euler"] = "ddim"
    """"dpmsolver++" is of second order and needs fewer steps."""
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    """How the steps are spread over the noise levels, as diffusers names it."""
    use_karras_sigmas: bool = False
    """Noise levels of Karras et al. (arXiv 2206.00364); not with ddim."""

    @model_validator(mode="after")
    def _karras_sigmas_need_sigmas(self) -> "SchedulerConfig":
        if self.use_karras_sigmas and self.name == "ddim":
            raise ValueError("use_karras_sigmas: only with dpmsolver++ or euler, not with ddim")
        return self

    def options(self) -> dict[str, Any]:
        """Options that override those of the pretrained scheduler."""
        options: dict[str, Any] = {"timestep_spacing": self.timestep_spacing}
        if self.name != "ddim":
            options["use_karras_sigmas"] = self.use_karras_sigmas
        return options


class IPAdapterConfig(Settings):
    """An image prompt adapter (IP-Adapter, arXiv 2308.06721) of one embedding per image."""

    path: str = "models/pocket"
    """A bundled folder, a local folder, or a repository of the hub."""
    subfolder: str = "image_prompt"
    """Folder of the file below `path`."""
    weight_name: str = Field(default="ip-adapter_pocket.safetensors", pattern=r"\.safetensors$")
    """The file; it must belong to the family of the UNet (SD1.5, SD2.1, SDXL, pocket)."""
    revision: str | None = None
    """Commit of a hub repository."""
    scale: float = Field(default=0.6, ge=0, le=1)
    """Weight of the image prompt beside the text; 0: the adapter changes nothing."""


def resolve(path: str) -> str:
    """The bundled folder of that name if there is one, else `path` as it stands.

    Raises:
        ValueError: it is a folder with weights in a format that can run code when it is loaded, or
            with code.
    """
    bundled = PACKAGE_ROOT / path
    folder = bundled if bundled.is_dir() else Path(path)
    unsafe = sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in UNSAFE)
    if unsafe:
        raise ValueError(
            f"model {path}: holds {unsafe[0]}; weights must be safetensors, and no file may end in"
            f" {', '.join(sorted(UNSAFE))}"
        )
    return str(bundled) if bundled.is_dir() else path


_PLACED = ModelConfig | PartConfig | IPAdapterConfig | LoRAConfig


def weights(settings: Settings) -> Iterator[Any]:
    """All settings that name a place of weights, at any depth; they have `path` and `revision`."""
    for _, value in settings:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, _PLACED) and one.path is not None:
                yield one
            if isinstance(one, Settings):
                yield from weights(one)


def model_revisions(*sections: Settings) -> dict[str, str]:
    """Revisions of the weights that configuration sections name, by their keys."""
    named = {(one.path, one.revision) for section in sections for one in weights(section)}
    return {
        path if revision is None else f"{path}@{revision}": model_revision(path, revision)
        for path, revision in named
    }


def model_revision(path: str, revision: str | None) -> str:
    """The revision of weights: a hash of a local folder's files, or a hub commit."""
    folder = Path(resolve(path))
    if not folder.is_dir():
        return f"{path}@{revision}"
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".json", ".safetensors", ".txt"):
            content.update(f"{file.relative_to(folder)}\n{checksum(file)}\n".encode())
    return content.hexdigest()
