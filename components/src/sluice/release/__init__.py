"""The files of an environment: release file, holds, options of its overlay, and the snapshot of them."""
