"""`streamkd bench distillation`: what every objective is worth, out of fold, with the same budget in each row."""
