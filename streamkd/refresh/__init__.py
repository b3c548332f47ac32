"""Renewing the student on site: harvest, gate, registry, and the loop as resumable steps. No torch, no ray."""
