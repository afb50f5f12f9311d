"""GigaGAN as a list of phases: what each network is updated with (Sec. 3.4 and 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gigagan.clip import Clips
from gigagan.config import Config
from gigagan.errors import UserError
from gigagan.networks.attention import twice_differentiable
from gigagan.networks.condition import Condition
from gigagan.networks.discriminator import Discriminator, Predictions, image_pyramid
from gigagan.networks.parameters import initialise
from gigagan.networks.upsampler import Upsampler, generator_of
from gigagan.networks.vision_aided import VisionAided
from gigagan.perceptual import ClipDistance, Lpips, Perceptual
from gigagan.pixels import shrink
from gigagan.pretrained import find
from gigagan.training import losses
from gigagan.training.batches import Batch

# Named terms of a loss; their sum is what is differentiated. ``embeddings``: the CLIP texts to tell pictures apart by.
Loss = Callable[[Batch, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Phase:
    """One kind of update: every ``interval`` steps, ``network`` is changed by ``optimizer`` so as to lower ``loss``."""

    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    interval: int = 1


def optimizer(network: nn.Module, config: Config, lr: float) -> torch.optim.AdamW:
    """AdamW with the paper's separate, stronger decay on attention (Table A2).

    Deviation: that is the attention between pixels, and from pixels to text; T's layers decay as everything else does.
    The paper does not say.
    """
    train = config.train
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in network.named_parameters():
        groups["attention" in name].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[False], "weight_decay": train.weight_decay},
            {"params": groups[True], "weight_decay": train.weight_decay_attention},
        ],
        lr=lr,
        betas=(train.beta1, train.beta2),
        fused=True,
    )


def _perceptual(config: Config, clips: Clips, device: torch.device) -> Perceptual | None:
    """The distance to the truth that an upsampler is trained with. Raises UserError where its file is missing."""
    loss = config.loss
    if not loss.perceptual_weight:
        return None
    if not config.upsampler.input:
        raise UserError(
            "loss.perceptual_weight: only an upsampler has a ground truth to be near to: set upsampler.input"
        )
    if loss.perceptual == "clip":
        return ClipDistance(clips.guide)
    try:
        lpips = Lpips(Path(loss.lpips_backbone) if loss.lpips_backbone else find("vgg16"))
    except UserError as e:
        raise UserError(
            f"loss.perceptual=lpips: {e.message}; loss.lpips_backbone=FILE names one, clip does without"
        ) from None
    return lpips if device.type == "cpu" else lpips.to(device)  # fake tensors, which only count, cannot be moved


class Judgement(NamedTuple):
    """What the discriminators say of pictures paired with captions."""

    pyramid: Predictions
    vision: Predictions  # none where there is no vision-aided discriminator

    def rows(self, rows: slice) -> Judgement:
        """Of some of the pictures."""
        return Judgement(*({key: logits[rows] for key, logits in part.items()} for part in self))


class GigaGAN:
    """Generator (or upsampler) and discriminators with the losses that tie them to each other."""

    def __init__(self, config: Config, clips: Clips, seed: int, device: torch.device) -> None:
        self.config, self.clips, self.device = config, clips, device
        width = clips.text.text_width if clips.text else 0
        self.generator = generator_of(config, width)
        self.discriminator = d = Discriminator(config, width)
        self.vision: VisionAided | None = None
        if clips.vision and config.vision.weight:
            self.vision = VisionAided(
                config.vision, clips.vision.map_widths, d.text.width, config.discriminator.predictor
            )
        for scope, network in self.networks.items():
            initialise(network, seed, scope)
            if device.type != "cpu":
                network.to(device)
        self.generator.recompute = d.recompute = config.train.gradient_checkpointing
        self.critics = nn.ModuleDict({name: n for name, n in self.networks.items() if name != "generator"})
        self.perceptual = _perceptual(config, clips, device)
        levels = (d.entries, d.exits, d.n_levels)
        self.gan_weights = losses.prediction_weights(config.loss, *levels, config.loss.early_exit_weight)
        self.match_weights = losses.prediction_weights(config.loss, *levels, config.loss.early_exit_matching_weight)
        self.vision_weights = {(0, k): config.vision.weight / len(config.vision.layers) for k in config.vision.layers}

    @property
    def networks(self) -> dict[str, nn.Module]:
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return networks | ({} if self.vision is None else {"vision_aided": self.vision})

    @property
    def shas(self) -> dict[str, str]:
        """Hashes of the files of networks that train it, besides its CLIPs'."""
        return {"perceptual": self.perceptual.sha} if self.perceptual and self.config.loss.perceptual == "lpips" else {}

    def phases(self) -> list[Phase]:
        train = self.config.train
        g_optimizer = optimizer(self.generator, self.config, train.lr_generator)
        d_optimizer = optimizer(self.critics, self.config, train.lr_discriminator)
        phases = [
            Phase("discriminator", self.critics, d_optimizer, self.discriminator_loss),
            Phase("generator", self.generator, g_optimizer, self.generator_loss),
        ]
        if self.config.loss.r1_weight > 0:
            phases.insert(1, Phase("r1", self.critics, d_optimizer, self.r1_loss, self.config.loss.r1_interval))
        return phases

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.dtype == "bf16")

    def _generate(self, batch: Batch, phase: str) -> list[Tensor]:
        g = self.generator
        z, noise = batch.latents(phase, g.z_dim, g.noise_dim)
        start = [shrink(batch.images, g.input)] if isinstance(g, Upsampler) else []
        return [level.float() for level in g(z, batch.text, noise, *start)]

    def _judge(self, pyramid: list[Tensor], captions: list[Condition], maps: list[Tensor]) -> list[Judgement]:
        """The pictures paired with each of several lists of captions; the vision-aided discriminator, which has no
        matching loss, hears the first of them alone."""
        d = self.discriminator
        with self._autocast():
            exits = d.trunk(pyramid)
            conditions = [d.text(part).total for part in captions]
            predictions = [d.predict(exits, condition) for condition in conditions]
        vision = [{} for _ in captions]
        if self.vision is not None:
            vision[0] = self.vision(maps, conditions[0].float())
        return [Judgement(*pair) for pair in zip(predictions, vision, strict=True)]

    def _see(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """What the vision-aided discriminator looks at, and the CLIP loss's embedding where the same CLIP makes it."""
        if self.vision is None:
            return [], None
        maps, embedding = self.clips.vision.see(images)
        return maps, embedding if self.clips.guide is self.clips.vision else None

    def discriminator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """V_GAN, V_match and L_Vision for D; phi sees the real and the generated pictures in one pass."""
        loss, d = self.config.loss, self.discriminator
        b = len(batch.images)
        with torch.no_grad():
            with self._autocast():
                fake = self._generate(batch, "discriminator")
            real = image_pyramid(batch.images, len(d.entries))
            both = [torch.cat(level) for level in zip(real, fake, strict=False)]
            maps, _ = self._see(both[0])
        captions = [batch.text] if loss.matching == "none" else [batch.text, batch.other]
        pairs = self._judge(both, captions, maps)
        real_pairs = [pair.rows(slice(0, b)) for pair in pairs]
        fake_pairs = [pair.rows(slice(b, None)) for pair in pairs]

        terms = {"gan": losses.discriminator_gan(real_pairs[0].pyramid, fake_pairs[0].pyramid, self.gan_weights)}
        for name, mismatched in (("real", real_pairs), ("fake", fake_pairs)):
            if name in loss.matching:
                match = losses.matching_aware(mismatched[1].pyramid, self.match_weights, batch.has_other)
                terms[f"matching_{name}"] = loss.matching_weight * match
        if self.vision is not None:
            terms["vision"] = losses.discriminator_gan(real_pairs[0].vision, fake_pairs[0].vision, self.vision_weights)
        return terms

    def r1_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """Lazy R1 on real pictures, weighted by its interval so that its mean strength is gamma.

        Deviation: the penalised quantity is the weighted sum of all predictions, with respect to all levels' inputs;
        the paper does not say which of them R1 applies to. The vision-aided discriminator is not penalised.
        """
        loss, d = self.config.loss, self.discriminator
        inputs = [level.detach().requires_grad_() for level in image_pyramid(batch.images, len(d.entries))]
        with twice_differentiable():
            (real,) = d(inputs, [batch.text])
            overall = sum(weight * real[key].flatten(1).mean(1) for key, weight in self.gan_weights.items())
            return {"penalty": loss.r1_interval * losses.r1_penalty(overall, inputs, loss.r1_weight)}

    def generator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """V_GAN and L_Vision for G, L_CLIP, the upsampler's distance to the truth, and the optional matching term."""
        loss = self.config.loss
        matching_weight = 0.0 if loss.matching == "none" else loss.generator_matching_weight
        with self._autocast():
            fake = self._generate(batch, "generator")
        maps, seen = self._see(fake[0])
        captions = [batch.text, batch.other] if matching_weight else [batch.text]
        pairs = self._judge(fake, captions, maps)
        terms = {"gan": losses.generator_gan(pairs[0].pyramid, self.gan_weights)}
        if matching_weight:
            match = losses.matching_aware(pairs[1].pyramid, self.match_weights, batch.has_other)
            terms["matching"] = matching_weight * match
        if self.vision is not None:
            terms["vision"] = losses.generator_gan(pairs[0].vision, self.vision_weights)
        if loss.clip_weight:
            images = self.clips.guide.embed_image(fake[0]) if seen is None else seen
            contrast = losses.clip_contrastive(images, embeddings, batch.positives, loss.clip_temperature)
            terms["clip"] = loss.clip_weight * contrast
        if self.perceptual is not None:
            terms["perceptual"] = loss.perceptual_weight * self.perceptual.distance(fake[0], batch.images).mean()
        return terms
