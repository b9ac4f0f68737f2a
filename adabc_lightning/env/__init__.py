"""What is acted in: environments, robots, episodes, policies as something to call."""
