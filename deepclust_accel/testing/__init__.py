"""Public checks for people who write operators and methods: what a new one has to satisfy."""
