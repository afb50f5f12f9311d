"""The systems that GigaGAN is compared with: trained here on the same data, or brought as local folders."""
