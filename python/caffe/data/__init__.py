"""The way in: pictures and records from disk to batches of pixels, with no net in sight."""
