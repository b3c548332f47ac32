"""Training and distillation of students, in torch."""
