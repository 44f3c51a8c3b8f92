"""Where the job runs: clusters, images, templates and schedules."""
