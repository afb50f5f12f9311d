"""GigaGAN as a list of phases: what each network is updated with (Sec. 3.4 and 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gigagan.clip import Clip
from gigagan.config import Config
from gigagan.networks.attention import twice_differentiable
from gigagan.networks.discriminator import Discriminator, image_pyramid
from gigagan.networks.generator import Generator
from gigagan.networks.parameters import initialise
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


class GigaGAN:
    """Generator and discriminator with the losses that tie them to each other."""

    def __init__(self, config: Config, clip: Clip, seed: int, device: torch.device) -> None:
        self.config, self.clip, self.device = config, clip, device
        self.generator = Generator(config, clip.text_width)
        self.discriminator = Discriminator(config, clip.text_width)
        for scope, network in self.networks.items():
            initialise(network, seed, scope)
            network.to(device)
        d = self.discriminator
        levels = (d.entries, d.exits, d.n_levels)
        self.gan_weights = losses.prediction_weights(config.loss, *levels, config.loss.early_exit_weight)
        self.match_weights = losses.prediction_weights(config.loss, *levels, config.loss.early_exit_matching_weight)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def phases(self) -> list[Phase]:
        train = self.config.train
        g, d = self.generator, self.discriminator
        g_optimizer = optimizer(g, self.config, train.lr_generator)
        d_optimizer = optimizer(d, self.config, train.lr_discriminator)
        phases = [
            Phase("discriminator", d, d_optimizer, self.discriminator_loss),
            Phase("generator", g, g_optimizer, self.generator_loss),
        ]
        if self.config.loss.r1_weight > 0:
            phases.insert(1, Phase("r1", d, d_optimizer, self.r1_loss, self.config.loss.r1_interval))
        return phases

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.dtype == "bf16")

    def _generate(self, batch: Batch, phase: str) -> list[Tensor]:
        z, noise = batch.latents(phase, self.generator.z_dim, self.generator.noise_dim)
        return [level.float() for level in self.generator(z, batch.text, noise)]

    def discriminator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """V_GAN and V_match for D; phi sees the real and the generated pictures in one pass."""
        loss, d = self.config.loss, self.discriminator
        b = len(batch.images)
        with self._autocast():
            with torch.no_grad():
                fake = self._generate(batch, "discriminator")
            real = image_pyramid(batch.images, d.n_levels)
            captions = [batch.text] if loss.matching == "none" else [batch.text, batch.other]
            pairs = d([torch.cat(level) for level in zip(real, fake, strict=True)], captions)
        real_pairs = [{key: logits[:b] for key, logits in pair.items()} for pair in pairs]
        fake_pairs = [{key: logits[b:] for key, logits in pair.items()} for pair in pairs]

        terms = {"gan": losses.discriminator_gan(real_pairs[0], fake_pairs[0], self.gan_weights)}
        for name, mismatched in (("real", real_pairs), ("fake", fake_pairs)):
            if name in loss.matching:
                match = losses.matching_aware(mismatched[1], self.match_weights, batch.has_other)
                terms[f"matching_{name}"] = loss.matching_weight * match
        return terms

    def r1_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """Lazy R1 on real pictures, weighted by its interval so that its mean strength is gamma.

        Deviation: the penalised quantity is the weighted sum of all predictions, with respect to all levels' inputs;
        the paper does not say which of them R1 applies to.
        """
        loss, d = self.config.loss, self.discriminator
        pyramid = [level.detach().requires_grad_() for level in image_pyramid(batch.images, d.n_levels)]
        inputs = [pyramid[i] for i in d.entries]
        with twice_differentiable():
            (real,) = d(pyramid, [batch.text])
            overall = sum(weight * real[key].flatten(1).mean(1) for key, weight in self.gan_weights.items())
            return {"penalty": loss.r1_interval * losses.r1_penalty(overall, inputs, loss.r1_weight)}

    def generator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        """V_GAN for G, L_CLIP, and the optional matching term."""
        loss = self.config.loss
        matching_weight = 0.0 if loss.matching == "none" else loss.generator_matching_weight
        with self._autocast():
            fake = self._generate(batch, "generator")
            captions = [batch.text, batch.other] if matching_weight else [batch.text]
            pairs = self.discriminator(fake, captions)
        terms = {"gan": losses.generator_gan(pairs[0], self.gan_weights)}
        if matching_weight:
            match = losses.matching_aware(pairs[1], self.match_weights, batch.has_other)
            terms["matching"] = matching_weight * match
        if loss.clip_weight:
            images = self.clip.embed_image(fake[0])
            contrast = losses.clip_contrastive(images, embeddings, batch.positives, loss.clip_temperature)
            terms["clip"] = loss.clip_weight * contrast
        return terms
