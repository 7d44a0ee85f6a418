"""Backbones: any timm plain ViT as teacher, our students, any checkpoint's weights."""
