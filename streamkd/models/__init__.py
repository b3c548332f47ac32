"""Networks, in torch: backbone, student, teachers."""
