"""Text-conditional diffusion of pixels: a teacher, and what it is distilled into.

Each network is a run of its own, which starts from another's folder: ``data`` trains the teacher; ``guidance`` and a
chain of ``halving`` are Meng et al.'s distillation (arXiv 2210.03142); ``consistency`` is a latent consistency model's
(arXiv 2310.04378), of pixels; ``none`` draws with another number of steps.
"""
