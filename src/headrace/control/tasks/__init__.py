"""Tasks: users' jobs that mount volumes; a lease says that a task is alive, and its mounts keep accelerations alive."""
