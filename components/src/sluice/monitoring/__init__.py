"""What people watch: dashboards, and what Git says is released."""
