"""GigaGAN (Kang et al., "Scaling up GANs for Text-to-Image Synthesis", arXiv 2303.05511): model, data and training."""

__version__ = "0.1.0"
