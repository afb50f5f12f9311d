"""StyleGAN-T as a list of phases: what each network is updated with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from evaluation.rivals.stylegan_t import augment, losses, vit
from evaluation.rivals.stylegan_t.config import Config
from evaluation.rivals.stylegan_t.discriminator import Discriminator
from evaluation.rivals.stylegan_t.generator import generator_of
from gigagan.clip import Clips
from gigagan.errors import UserError
from gigagan.training import distributed
from gigagan.training.batches import Batch
from gigagan.training.phases import Phase


class StyleGANT:
    """Generator and discriminator heads with the losses that tie them to each other.

    Raises UserError for a ``start``, as it begins from nothing; for a process's share of a batch that virtual batches
    do not divide; and as ``vit.load``.
    """

    def __init__(
        self, config: Config, clips: Clips, seed: int, device: torch.device, start: Path | None = None
    ) -> None:
        if start is not None:
            raise UserError(f"--start {start}: StyleGAN-T begins from nothing: leave it out")
        d, share = config.discriminator, config.train.batch // distributed.world()
        if share % d.virtual_batch:
            raise UserError(
                f"train.batch={config.train.batch}: each process's {share} pictures are no multiple of "
                f"discriminator.virtual_batch={d.virtual_batch}"
            )
        self.config, self.clip, self.device = config, clips.text, device
        self.generator = generator_of(config, self.clip)
        self.backbone = vit.load(d.backbone, d.levels, self.clip, device)
        self.discriminator = Discriminator(d, self.backbone.width, self.clip.embed_dim)
        for network in self.networks.values():
            network.begin(seed)
            network.to(device)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def shas(self) -> dict[str, str]:
        """Hash of the frozen ViT's file, where it is not the CLIP's."""
        return {"backbone": self.backbone.sha} if self.backbone.sha else {}

    @property
    def before(self) -> dict[str, float]:
        """Nothing went into its first weights."""
        return {}

    def phases(self) -> list[Phase]:
        train = self.config.train

        def adam(network: nn.Module, lr: float) -> torch.optim.Optimizer:
            betas = (train.beta1, train.beta2)
            return torch.optim.AdamW(
                network.parameters(), lr=lr, betas=betas, weight_decay=train.weight_decay, fused=True
            )

        g, d = self.generator, self.discriminator
        return [
            Phase("discriminator", d, adam(d, train.lr_discriminator), self.discriminator_loss),
            Phase("generator", g, adam(g, train.lr_generator), self.generator_loss),
        ]

    def _autocast(self) -> torch.autocast:
        # Deviation: bf16, where it is asked for, in all layers; the authors have fp16 in the four highest resolutions.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.dtype == "bf16")

    def _generate(self, batch: Batch, phase: str) -> Tensor:
        g = self.generator
        z, noise = batch.latents(phase, g.z_dim, g.noise_dim)
        if phase == "generator":
            g.mapping.track(z, len(z) * distributed.world() / self.config.train.batch)
        w = g.style(z, batch.text.pooled)
        with self._autocast():
            return g.synthesise(w, noise)

    def _views(self, images: Tensor, batch: Batch, kind: str) -> Tensor:
        """What the ViT sees of pictures: blurred, augmented, cropped or resized. [B, 3, R, R] -> [B, 3, side, side]

        Deviation: whether a picture is cropped is drawn for each, not once a batch, as all that is drawn here.
        """
        d, side = self.config.discriminator, self.backbone.side
        x = losses.blur(images, losses.blur_sigma(self.config.loss, batch.images_seen))
        if d.augment:
            x = augment.diff_augment(x, augment.uniform(batch.seeds, f"{kind} augmentation", augment.DRAWS))
        resized = self.backbone.resize(x)
        if images.shape[-1] <= side or not d.crop:
            return resized
        draws = augment.uniform(batch.seeds, f"{kind} crop", 3)
        chosen = (draws[:, 0] < d.crop).to(self.device)[:, None, None, None]
        return torch.where(chosen, augment.crop(x, side, draws[:, 1:]), resized)

    def _judge(self, views: Tensor, text: Tensor) -> Tensor:
        """Logits [B, levels * T] of views [B, 3, side, side], paired with captions in order, as often as they go in."""
        with self._autocast():
            features = self.backbone(views)
        return self.discriminator([level.float() for level in features], text)

    def discriminator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self._generate(batch, "discriminator")
            views = [self._views(batch.images, batch, "real"), self._views(fake, batch, "fake")]
        # Real and generated pictures share a pass, but no batch statistics: a virtual batch divides either half.
        real, fake = self._judge(torch.cat(views), batch.text.pooled).chunk(2)
        return {"gan": losses.hinge_discriminator(real, fake)}

    def generator_loss(self, batch: Batch, embeddings: Tensor) -> dict[str, Tensor]:
        loss, text = self.config.loss, batch.text.pooled
        fake = self._generate(batch, "generator")
        terms = {"gan": losses.hinge_generator(self._judge(self._views(fake, batch, "generator"), text))}
        if loss.clip_weight:
            if fake.shape[-1] > loss.clip_crop:
                fake = augment.crop(fake, loss.clip_crop, augment.uniform(batch.seeds, "guidance crop", 2))
            seen = nn.functional.interpolate(fake, self.clip.image_size, mode="area")
            distance = losses.spherical_distance(self.clip.embed_image(seen), text)
            terms["clip"] = loss.clip_weight * distance.mean()
        return terms
