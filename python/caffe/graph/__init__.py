"""Passes over a net's layers before any blob exists: NetParameter in, NetParameter out, no torch."""
