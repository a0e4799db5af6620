"""Puts an IP-Adapter (arXiv 2308.06721), the pocket family's or a published one, into a UNet."""

from typing import Any

from diffusers.models.embeddings import ImageProjection

from storyreel.stages.models.config import IPAdapterConfig, resolve


def load_ip_adapter(pipeline: Any, config: IPAdapterConfig, embedding_dim: int) -> Any:
    """Load the adapter into the UNet; return its projection, [(rows, 1, E)] to [(rows, 1, T, D)].

    The UNet no longer projects: it would mix the images of different rows. It takes each row's
    own tokens, as `encoder_hidden_states = (text, [tokens])`. The attention processors of all
    layers are replaced; Consistent Self-Attention goes in afterwards.

    Raises:
        ValueError: the adapter does not fit the UNet, or does not read one embedding per image, of
            `embedding_dim` channels E.
        OSError: there is no such file.
    """
    place = f"ip_adapter {config.weight_name}"
    try:
        pipeline.load_ip_adapter(
            resolve(config.path),
            subfolder=config.subfolder,
            weight_name=config.weight_name,
            revision=config.revision,
            image_encoder_folder=None,
        )
    except (KeyError, RuntimeError, ValueError) as error:
        message = f"{place}: does not fit this UNet, it must belong to the same family: {error}"
        raise ValueError(message) from error
    pipeline.set_ip_adapter_scale(config.scale)
    projection = pipeline.unet.encoder_hid_proj
    (layer,) = projection.image_projection_layers
    if not isinstance(layer, ImageProjection):
        raise ValueError(
            f"{place}: reads {type(layer).__name__}, allowed are only adapters of one embedding"
            " per image, such as ip-adapter_sd15.safetensors"
        )
    expected_dim = layer.image_embeds.in_features
    if expected_dim != embedding_dim:
        raise ValueError(
            f"{place}: reads embeddings of {expected_dim} channels, its image_encoder must give"
            f" them, but the configured one gives {embedding_dim}"
        )
    pipeline.unet.encoder_hid_proj = None
    return projection
