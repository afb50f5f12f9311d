"""StyleGAN-T (Sauer et al. 2023, https://arxiv.org/abs/2301.09515): the one other GAN of GigaGAN's size.

What it does otherwise: a picture begins with Fourier features at 8 px, and there is no attention; captions are one
pooled CLIP embedding; the discriminator is five small heads on a frozen ViT, with augmentation, a hinge loss and a
blur that fades, instead of a pyramid with R1 and a matching loss.

    config.py          every number of it, with the paper's as defaults
    generator.py       Sec. 3.1: Fourier input, residual convolutions, second-order styles, and the mapping
    vit.py             Sec. 3.2: the frozen ViT that the discriminator looks through
    discriminator.py   Sec. 3.2: its heads
    augment.py         what is drawn per picture: DiffAug, crops
    losses.py          hinge, CLIP guidance (Sec. 3.3), blur
    phases.py          how they train each other
    sampler.py         captions in, pictures out, with truncation (Sec. 3.3)

Left out: the second phase, which trains CLIP's text encoder, and the one that freezes the blocks up to 64 px.
"""
