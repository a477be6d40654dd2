"""Real processes of the service, whose start costs little."""
