"""
The loop on one machine: KFP's local runner, and small stand-ins for Argo CD and the gateway.

Never part of an image.
"""
