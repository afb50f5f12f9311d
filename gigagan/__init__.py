"""GigaGAN (Kang et al., "Scaling up GANs for Text-to-Image Synthesis", arXiv 2303.05511): model, data and training."""

from gigagan.errors import one_line_for_ctrl_c

__version__ = "0.1.0"

one_line_for_ctrl_c()
