"""What Sluice asks of a cluster. The core (`sluice`) knows no Kubernetes; this package adapts it."""
