"""The whole workflow on two CPU cores: scenes, teacher, distillation, few labels, a page."""
