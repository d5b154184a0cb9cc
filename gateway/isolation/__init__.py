"""Plugins in processes of their own: `process = true`. What they are told and what they answer goes over a channel, as plain values."""
