"""
The user's own repository: begun, checked, compiled, brought into a GitOps repository and to a newer platform.

Never part of an image.
"""
