"""What a run is and leaves behind: schedule, folder, checkpoints, configs, processes."""
