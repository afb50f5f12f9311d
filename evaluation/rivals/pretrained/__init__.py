"""Pretrained models from local folders, as Samplers: diffusers' text-to-image pipelines, generators behind a user's own
Python file, AuraSR, and folders of finished pictures. Nothing here reaches for a hub."""
